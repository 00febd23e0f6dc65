"""What statements about an image make of its labels."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import IntEnum
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from spf_data.catalogue.places import Combination, Rules
from spf_data.catalogue.statements import Statements
from spf_data.findings import Finding

Uncertain = Literal["unknown", "positive", "negative"]
NotMentioned = Literal["absent", "unknown"]
Unplaced = Literal["unknown", "explained"]

UNKNOWN_VALUE = -1
_BOTH = ("right", "left")


@dataclass(frozen=True)
class Policies:
    """What is decided where the statements leave it open.

    Attributes:
        uncertain: What an uncertain finding is taken for.
        not_mentioned: What a finding is that nothing was said of: "absent" where the source says that its labels are
            all there is (the manifest's column `complete`), "unknown" everywhere.
        unplaced: What a finding without side or region says beside the same finding with one: "unknown": it may be
            somewhere else, too; "explained": it is the same one.

    Raises:
        ValueError: If one is none of its values.
    """

    uncertain: Uncertain = "unknown"
    not_mentioned: NotMentioned = "absent"
    unplaced: Unplaced = "unknown"

    def __post_init__(self) -> None:
        allowed = {"uncertain": Uncertain, "not_mentioned": NotMentioned, "unplaced": Unplaced}
        for name, value in asdict(self).items():
            if value not in get_args(allowed[name]):
                raise ValueError(f"{name} must be one of {get_args(allowed[name])}, got {value!r}")


class _Says(IntEnum):
    """What a statement says of a place; the greatest counts."""

    NOTHING = 0
    NO = 1
    UNKNOWN = 2
    YES = 3


def label_values(
    findings: Sequence[Finding], places: Sequence[Combination], complete: bool, policies: Policies, rules: Rules
) -> tuple[int, ...]:
    """The labels of an image for one finding, from all that is said of that finding.

    Args:
        findings: Statements of the image (or its study) with one core.
        places: Labels of that finding, on the right, the left or both sides.
        complete: Whether what is not said is absent.
        policies: What is decided where the statements leave it open.
        rules: How places lie to each other.

    Returns:
        For each label 1, 0 or `UNKNOWN_VALUE`. Bilateral is present where both sides are, absent where one is.
    """
    silence = 0 if complete and policies.not_mentioned == "absent" else UNKNOWN_VALUE
    values_of = {_Says.NOTHING: silence, _Says.NO: 0, _Says.UNKNOWN: UNKNOWN_VALUE, _Says.YES: 1}
    if policies.uncertain == "positive":
        findings = [replace(one, polarity="yes") if one.polarity == "uncertain" else one for one in findings]
    telling = _telling(findings, policies, rules)
    values = []
    for place in places:
        sides = _BOTH if place.side == "bilateral" else (place.side,)
        said = [max((_says(one, side, place.region, policies, rules) for one in telling), default=0) for side in sides]
        of_sides = [values_of[_Says(value)] for value in said]
        values.append(0 if 0 in of_sides else min(of_sides))
    return tuple(values)


def _telling(findings: Sequence[Finding], policies: Policies, rules: Rules) -> list[Finding]:
    """The statements that tell something beside the others."""
    present = [one for one in findings if one.polarity == "yes"]
    kept = []
    for finding in findings:
        if finding.polarity == "no" and not finding.laterality and present:
            continue
        explained = policies.unplaced == "explained" and any(_explains(one, finding, rules) for one in present)
        if not explained:
            kept.append(finding)
    return kept


def _explains(placed: Finding, vague: Finding, rules: Rules) -> bool:
    """Whether a finding with a place may be all that a statement with less of a place speaks of."""
    if vague.polarity == "no" or vague.laterality not in ("", placed.laterality):
        return False
    wider, narrower = rules.regions_of(vague), rules.regions_of(placed)
    return (vague.laterality, wider) != (placed.laterality, narrower) and (not wider or wider == narrower)


def _says(finding: Finding, side: str, region: str, policies: Policies, rules: Rules) -> _Says:
    """What one statement says of a region ("": anywhere) on one side."""
    if finding.laterality not in ("", "bilateral", side):
        return _Says.NOTHING
    relation = rules.relation(finding, region)
    if relation == "elsewhere":
        return _Says.NOTHING
    if finding.polarity == "no":
        return _Says.NO if relation in ("same", "around") else _Says.NOTHING
    if finding.polarity == "uncertain" and policies.uncertain == "negative":
        return _Says.NOTHING if relation == "overlaps" else _Says.NO
    placed = bool(finding.laterality) and relation in ("same", "inside")
    return _Says.YES if placed and finding.polarity == "yes" else _Says.UNKNOWN


def label_rows(
    statements: Statements,
    complete: npt.NDArray[np.bool_],
    chosen: Sequence[Combination],
    policies: Policies,
    rules: Rules,
) -> npt.NDArray[np.int8]:
    """The labels of all images.

    Args:
        statements: What is said of them.
        complete: Whether what is not said of an image is absent (N,), of the findings that could have been said.
        chosen: The labels (L,).
        policies: What is decided where the statements leave it open.
        rules: How places lie to each other.

    Returns:
        int8 (N, L) of 1, 0 and `UNKNOWN_VALUE`.
    """
    silence = complete & (policies.not_mentioned == "absent")
    sayable = np.array([place.finding in statements.cores for place in chosen], dtype=bool)
    labels = np.where(silence[:, None] & sayable, 0, UNKNOWN_VALUE).astype(np.int8)
    for core in sorted({place.finding for place in chosen}):
        columns = [index for index, place in enumerate(chosen) if place.finding == core]
        places = [chosen[column] for column in columns]
        indices = [index for index, finding in enumerate(statements.findings) if finding.core == core]
        wanted = np.isin(statements.said, indices)
        images, said = statements.images[wanted], statements.said[wanted]
        known: dict[tuple[bool, tuple[int, ...]], tuple[int, ...]] = {}
        bounds = np.flatnonzero(np.diff(images, prepend=-1, append=-1))
        for start, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            row = int(images[start])
            key = (bool(complete[row]), tuple(said[start:end].tolist()))
            if key not in known:
                findings = [statements.findings[index] for index in key[1]]
                known[key] = label_values(findings, places, key[0], policies, rules)
            labels[row, columns] = known[key]
    return labels
