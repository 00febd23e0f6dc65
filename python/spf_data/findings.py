"""The one record that every source of labels is turned into: what is seen, whether it is there, and where."""

from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["finding", "disease", "device", "technical"]
Polarity = Literal["yes", "no", "uncertain"]
Laterality = Literal["left", "right", "bilateral", ""]
Severity = Literal["mild", "moderate", "severe", ""]


@dataclass(frozen=True)
class Finding:
    """One statement about one finding in one place.

    Attributes:
        kind: What sort of thing it is: seen, a disease it is taken for, a device, or a property of the image itself.
        polarity: Whether it is said to be there.
        core: The finding without place, side and degree ("pleural effusion"), as the vocabulary spells it.
        anatomy: The places it is in, as the vocabulary spells them; several where one lies in the other
            ("hilum", "lymph node"). Empty if no place is named.
        laterality: The PATIENT's side; "" if no side is named.
        severity: Its degree; "" if none is named.
        span: Start and end of its words in the text it was read from; (0, 0) if it was not read from a text.
        rule: Why it was labelled so, for people.
    """

    kind: Kind
    polarity: Polarity
    core: str
    anatomy: tuple[str, ...] = ()
    laterality: Laterality = ""
    severity: Severity = ""
    span: tuple[int, int] = (0, 0)
    rule: str = ""

    def __post_init__(self) -> None:
        if not self.core:
            raise ValueError(f"core must not be empty, got {self.core!r}")
        for name, allowed in _ALLOWED.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, got {getattr(self, name)!r}")
        if not 0 <= self.span[0] <= self.span[1]:
            raise ValueError(f"span must be 0 <= start <= end, got {self.span}")

    def __str__(self) -> str:
        """The canonical string `kind|polarity|core|anatomy+anatomy|laterality|severity`: without span and rule."""
        return "|".join((self.kind, self.polarity, self.core, "+".join(self.anatomy), self.laterality, self.severity))

    @property
    def place(self) -> tuple[str, tuple[str, ...], str]:
        """What two statements must share for one to contradict the other: core, anatomy and side."""
        return self.core, self.anatomy, self.laterality


_ALLOWED: dict[str, tuple[str, ...]] = {
    "kind": get_args(Kind),
    "polarity": get_args(Polarity),
    "laterality": get_args(Laterality),
    "severity": get_args(Severity),
}

_RANK = {"yes": 0, "uncertain": 1, "no": 2}


def study_union(findings: list[Finding]) -> list[Finding]:
    """One finding for each core, anatomy and side: yes before uncertain before no, the earliest of equals.

    Args:
        findings: Statements of one study, in order.

    Returns:
        What the study says, in the order in which it was first said.
    """
    chosen: dict[tuple[str, tuple[str, ...], str], Finding] = {}
    for finding in findings:
        earlier = chosen.get(finding.place)
        if earlier is None or _RANK[finding.polarity] < _RANK[earlier.polarity]:
            chosen[finding.place] = finding
    return list(chosen.values())
