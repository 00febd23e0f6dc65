"""Findings in a source's own words, as its manifest has them, to findings of the vocabulary."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

from spf_data.findings import Finding, Laterality, Polarity
from spf_data.openi import MeshMap, load_mesh_map
from spf_data.vocabulary import FOLDER, Vocabulary, read_data

# The file of each source's words. Open-i's codes have a reader of their own, `spf_data.openi.MeshMap`.
FILES = {
    "padchest": "padchest.yaml",
    "padchest-gr": "padchest.yaml",
    "chest-imagenome": "chest_imagenome.yaml",
    "nih": "nih.yaml",
    "mimic-cxr": "chexpert.yaml",
}
OPEN_I = "open-i"
_KEYS = {"findings", "finding_in", "places", "no_place", "sides"}
_SIDE_WORDS = ("left", "right", "bilateral")


class SourceRow(NamedTuple):
    """One row of a manifest's findings, as far as it says what is where."""

    finding: str
    polarity: str
    anatomy: str
    laterality: str
    modifiers: str

    @property
    def places(self) -> list[str]:
        """The places, in the source's words."""
        return [word for word in self.anatomy.split("|") if word]


@dataclass
class Unread:
    """How often words were met that stand for nothing in the vocabulary.

    Attributes:
        findings: Rows left out, by the source's finding.
        places: Places left out, by the source's word.
        not_there: Places left out because the vocabulary does not have the finding there, by (finding, place).
        sides: Sides left out because a side has no meaning for the finding, by finding.
    """

    findings: Counter[str] = field(default_factory=Counter)
    places: Counter[str] = field(default_factory=Counter)
    not_there: Counter[tuple[str, str]] = field(default_factory=Counter)
    sides: Counter[str] = field(default_factory=Counter)


class Reader(Protocol):
    """Reads rows of one source."""

    @property
    def cores(self) -> frozenset[str]:
        """The findings that the source has words for: of the others its silence says nothing."""

    def read(self, row: SourceRow, times: int, unread: Unread) -> list[Finding]:
        """The findings that a row stands for; what it leaves out is counted `times` times."""


def reader_of(source: str, vocabulary: Vocabulary) -> Reader:
    """The reader of a source's own words.

    Raises:
        ValueError: If the source has no findings that can be read.
    """
    if source == OPEN_I:
        return _CodeReader(load_mesh_map(vocabulary), vocabulary)
    if source not in FILES:
        raise ValueError(f"source must be one of {sorted((*FILES, OPEN_I))}, got {source!r}")
    return load_source_map(FOLDER / FILES[source], vocabulary)


@dataclass(frozen=True)
class SourceMap:
    """What a source's words stand for; the file's keys are explained in `vocabulary/padchest.yaml`."""

    vocabulary: Vocabulary
    findings: Mapping[str, tuple[str, ...]]
    finding_in: Mapping[str, tuple[str, ...]]
    places: Mapping[str, str]
    no_place: frozenset[str]
    sides: Mapping[str, str]

    @property
    def cores(self) -> frozenset[str]:
        """The findings that the source has words for."""
        return frozenset(core for cores in self.findings.values() for core in cores)

    def read(self, row: SourceRow, times: int, unread: Unread) -> list[Finding]:
        """The findings that a row stands for.

        A row that names several places with sides of their own ("right upper lobe", "left lower lobe") becomes one
        finding for each side, so that no place gets the other one's side.
        """
        cores = self.findings.get(row.finding, ())
        if not cores:
            unread.findings[row.finding] += times
            return []
        placed = [known for word in row.places if (known := self._place(word, times, unread)) is not None]
        groups = by_side(placed, row.laterality)
        own = self.finding_in.get(row.finding, ())
        return [
            located(self.vocabulary, row, core, (*places, *own), side, times, unread)
            for core in cores
            for side, places in groups
        ]

    def _place(self, word: str, times: int, unread: Unread) -> tuple[str, str] | None:
        """Side and name of a place; the side is "" if the word names none."""
        words = word.split()
        side = next((name for name in _SIDE_WORDS if name in words), "")
        plain = " ".join(part for part in words if part not in _SIDE_WORDS)
        if word in self.places:
            side, plain = (side if plain in self.places else ""), word
        if plain not in self.places:
            if plain not in self.no_place:
                unread.places[word] += times
            return None
        return side or self.sides.get(plain, ""), self.places[plain]


def by_side(placed: Sequence[tuple[str, str]], laterality: str) -> list[tuple[str, tuple[str, ...]]]:
    """Places grouped by the side they are on.

    Args:
        placed: (side, place): the side that the place's own words name, "" if they name none.
        laterality: What the row as a whole names: all sides of its words together.

    Returns:
        (side, places), one a side. Places without a side have the row's; where the places' sides make up all that the
        row names, they have that side if there is one, and none if there are two.
    """
    own = {side for side, _ in placed if side}
    rest = laterality
    if not laterality and len(own) == 1:
        rest = min(own)
    elif own >= {"left", "right"}:
        rest = ""
    groups: dict[str, list[str]] = {side: [] for side in (rest, *sorted(own))}
    for side, place in placed:
        groups[side or rest].append(place)
    if own and not rest and not groups[""]:
        del groups[""]
    return [(side, tuple(places)) for side, places in groups.items()]


def located(
    vocabulary: Vocabulary, row: SourceRow, core: str, places: Sequence[str], side: str, times: int, unread: Unread
) -> Finding:
    """The finding `core` of a row, in those places where the vocabulary has it."""
    term = vocabulary.findings[core]
    allowed = [place for place in places if not term.places or vocabulary.allows(core, place)]
    for place in places:
        if place not in allowed:
            unread.not_there[core, place] += times
    if side and not term.sided:
        unread.sides[core] += times
    return Finding(
        kind=term.kind,
        polarity=cast(Polarity, row.polarity),
        core=core,
        anatomy=vocabulary.located(core, allowed),
        laterality=cast(Laterality, side if term.sided else ""),
    )


@dataclass(frozen=True)
class _CodeReader:
    """Open-i's MeSH codes, which the manifest's findings hold in parts."""

    mesh: MeshMap
    vocabulary: Vocabulary

    @property
    def cores(self) -> frozenset[str]:
        return frozenset(core for choices in self.mesh.heads.values() for cores in choices.values() for core in cores)

    def read(self, row: SourceRow, times: int, unread: Unread) -> list[Finding]:
        parts = (row.finding, *row.places, *row.modifiers.split("|"), row.laterality)
        code = "/".join(part for part in parts if part)
        if not self.mesh.is_mapped(code):
            unread.findings[row.finding] += times
        for word in row.places:
            if not self.mesh.is_place(word):
                unread.places[word] += times
        return self.mesh.findings((code,), self.vocabulary)


def load_source_map(path: Path, vocabulary: Vocabulary) -> SourceMap:
    """Read what a source's words stand for.

    Raises:
        ValueError: If the file lacks a part, or names a finding, place or side that the vocabulary does not have.
    """
    data: dict[str, Any] = read_data(path)
    if data.keys() != _KEYS:
        raise ValueError(f"{path.name} must have {sorted(_KEYS)}, got {sorted(data)}")
    places = {*data["finding_in"], *data["places"]}
    unknown = sorted(data["findings"].keys() - vocabulary.findings.keys()) + sorted(places - vocabulary.places.keys())
    unknown += sorted(set(data["sides"]) - set(_SIDE_WORDS))
    if unknown:
        raise ValueError(f"{path.name} names {unknown}, which the vocabulary does not have")
    findings = _inverted(data["findings"])
    finding_in = _inverted(data["finding_in"])
    words = _inverted(data["places"])
    sides = _inverted(data["sides"])
    strangers = sorted(finding_in.keys() - findings.keys()) + sorted(sides.keys() - words.keys())
    twice = sorted(word for word, names in words.items() if len(names) > 1 or word in data["no_place"])
    if strangers or twice:
        raise ValueError(f"{path.name}: no findings or places are {strangers}; places listed twice: {twice}")
    side_of = {word: names[0] for word, names in sides.items()}
    first = {word: names[0] for word, names in words.items()}
    return SourceMap(vocabulary, findings, finding_in, first, frozenset(data["no_place"]), side_of)


def _inverted(lists: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    inverted: dict[str, tuple[str, ...]] = {}
    for name, words in lists.items():
        for word in words:
            inverted[word] = (*inverted.get(word, ()), name)
    return inverted
