"""PadChest's findings with their places: the column `LabelsLocalizationsBySentence` and its two shapes."""

import ast
import re
from dataclasses import dataclass

from spf_data.sources.values import side_of

# Not findings: they say something of the report or of the image.
NORMAL = "normal"
UNCHANGED = "unchanged"
EXCLUDE = "exclude"
SUBOPTIMAL = "suboptimal study"
NOT_FINDINGS = frozenset({NORMAL, UNCHANGED, EXCLUDE, SUBOPTIMAL, ""})

_LOCATION = "loc "
_LONGEST = 100_000
# numpy's nan, between the items of a list.
_BARE_NAN = re.compile(r"(?<=[\[,])\s*nan\s*(?=[,\]])")
# "hemidiaphragm elevation right side", "atelectasis basal left side", "interstitial pattern bilateral"
_SIDE_IN_LABEL = re.compile(
    r"(?P<finding>.+?)(?P<basal> basal)? (?:(?P<side>right|left|both) sides?|(?P<all>bilateral))"
)


@dataclass(frozen=True)
class Group:
    """Labels that are said of the same places.

    Attributes:
        labels: What is seen, without spaces around it.
        places: Where, without the leading "loc".
    """

    labels: tuple[str, ...]
    places: tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """A finding and where it is.

    Attributes:
        finding: What is seen, without a side.
        anatomy: The places in the table's words, but for those that name a side only.
        laterality: "left", "right", "bilateral" or "".
    """

    finding: str
    anatomy: tuple[str, ...]
    laterality: str


def parse_list(text: str) -> list[object] | None:
    """A Python list as the table writes it; a bare `nan` becomes None. None if it is no list.

    Only literals are read (`ast.literal_eval`): nothing is executed.
    """
    if len(text) > _LONGEST:
        return None
    try:
        value = ast.literal_eval(_BARE_NAN.sub("None", text))
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None
    return value if isinstance(value, list) else None


def parse_groups(text: str) -> list[Group] | None:
    """The groups of labels and places of one report; None if they can not be read.

    Physicians' rows are nested, one list a sentence. The recurrent network's rows are one flat list, where a leading
    space joins a label to the previous label's group, and "loc ..." items hold for the whole group.
    """
    value = parse_list(text)
    if value is None:
        return None
    if any(isinstance(item, list) for item in value):
        sentences = [[part for part in item if isinstance(part, str)] for item in value if isinstance(item, list)]
        return [_group(sentence) for sentence in sentences if sentence]
    groups: list[list[str]] = []
    for item in value:
        if not isinstance(item, str):
            continue
        joins = item.startswith((" ", _LOCATION)) and groups
        if joins:
            groups[-1].append(item)
        else:
            groups.append([item])
    return [_group(group) for group in groups]


def places_of(group: Group) -> list[Place]:
    """The group's findings, each with the group's places; a side within a label counts for that label alone."""
    side = side_of(group.places)
    anatomy = tuple(place for place in dict.fromkeys(group.places) if place not in ("left", "right", "bilateral"))
    return [_place(label, anatomy, side) for label in dict.fromkeys(group.labels) if label not in NOT_FINDINGS]


def split_side(label: str) -> tuple[str, tuple[str, ...], str]:
    """Finding, place and side of a label that may hold all three."""
    match = _SIDE_IN_LABEL.fullmatch(label)
    if match is None:
        return label, (), ""
    side = {"both": "bilateral", None: "bilateral"}.get(match["side"], match["side"])
    return match["finding"], ("basal",) if match["basal"] else (), side


def _group(items: list[str]) -> Group:
    stripped = [item.strip() for item in items]
    return Group(
        labels=tuple(item for item in stripped if not item.startswith(_LOCATION)),
        places=tuple(item[len(_LOCATION) :].strip() for item in stripped if item.startswith(_LOCATION)),
    )


def _place(label: str, anatomy: tuple[str, ...], side: str) -> Place:
    finding, place, own_side = split_side(label)
    return Place(finding, anatomy + tuple(part for part in place if part not in anatomy), own_side or side)
