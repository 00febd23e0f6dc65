"""Location-specific labels: what is seen, on which side of the patient, in which zone of the lung."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

Side = Literal["right", "left", "bilateral", "none"]

_MIRRORED_SIDE: dict[Side, Side] = {"right": "left", "left": "right", "bilateral": "bilateral", "none": "none"}


@dataclass(frozen=True)
class Label:
    """One location-specific label.

    Attributes:
        name: The words a radiologist would use; unique within a label set.
        finding: What is seen, without its place ("pleural effusion").
        side: The PATIENT's side. The patient's right lung is on the image's left. "none" where side has no meaning.
        zone: Part of the lung ("upper", "middle", "lower"), or "" where the label names none.
    """

    name: str
    finding: str
    side: Side
    zone: str = ""

    def __post_init__(self) -> None:
        if not self.name or not self.finding:
            raise ValueError(f"name and finding must not be empty, got {self.name!r} and {self.finding!r}")
        if self.side not in get_args(Side):
            raise ValueError(f"side of {self.name!r} must be one of {get_args(Side)}, got {self.side!r}")


@dataclass(frozen=True)
class LabelSet:
    """An ordered set of labels; the order is that of a classifier's outputs.

    Raises:
        ValueError: If a name, or a place (finding, side, zone), occurs twice, or if a sided label lacks the label of
            the opposite side: without it a horizontally flipped image has no correct labels.
    """

    labels: tuple[Label, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        _reject_duplicates([label.name for label in self.labels], "name")
        _reject_duplicates([(label.finding, label.side, label.zone) for label in self.labels], "place")
        self.mirror  # noqa: B018 - computed now so that a missing partner is reported here

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the labels, in order."""
        return tuple(label.name for label in self.labels)

    @cached_property
    def mirror(self) -> tuple[int, ...]:
        """For each label the index of its label after a horizontal flip: `flipped[:, k] = labels[:, mirror[k]]`."""
        places = {(label.finding, label.side, label.zone): index for index, label in enumerate(self.labels)}
        mirrored = []
        for label in self.labels:
            partner = places.get((label.finding, _MIRRORED_SIDE[label.side], label.zone))
            if partner is None:
                raise ValueError(f"label {label.name!r} has no counterpart on the other side")
            mirrored.append(partner)
        return tuple(mirrored)

    def index(self, name: str) -> int:
        """Index of the label called `name`.

        Raises:
            ValueError: If there is none.
        """
        if name not in self.names:
            raise ValueError(f"name {name!r} is not one of the {len(self)} labels: {', '.join(self.names)}")
        return self.names.index(name)


def _reject_duplicates(values: Sequence[object], what: str) -> None:
    seen: set[object] = set()
    for value in values:
        if value in seen:
            raise ValueError(f"{what} {value!r} occurs twice in the label set")
        seen.add(value)
