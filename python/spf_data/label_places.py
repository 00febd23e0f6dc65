"""What the labels of a manifest mean: finding, side and zone."""

import json
import re
from collections.abc import Sequence
from typing import Any

from spf_data.labels import Label, LabelSet, Side
from spf_data.manifest import Manifest

# In the manifest's metadata, for labels whose name does not say: JSON, by name "finding", "side" and perhaps "zone".
PLACES = "label_places"
_SIDES: tuple[Side, ...] = ("right", "left", "bilateral")
_ZONE = re.compile(r"\b(upper|middle|lower) zone\b")


def label_set_of(manifest: Manifest, names: Sequence[str] | None = None) -> LabelSet:
    """The labels of a manifest, with their places.

    A label's place is what the manifest's metadata say under `PLACES`. Where they say nothing, it is read from the
    name: the word "right", "left" or "bilateral" is the side, "upper zone", "middle zone" or "lower zone" the zone,
    and the other words are the finding.

    Args:
        manifest: Whose labels.
        names: Which of them, in this order; all if None.

    Raises:
        ValueError: If a name is none of the manifest's, a place is invalid, or a sided label lacks its counterpart.
    """
    names = manifest.label_names if names is None else names
    unknown = [name for name in names if name not in manifest.label_names]
    if unknown or not names:
        raise ValueError(f"labels must be among the manifest's {list(manifest.label_names)}, got {unknown or 'none'}")
    places = _places(manifest.info.get(PLACES, "{}"))
    labels = [_with_place(name, places[name]) if name in places else label_from_name(name) for name in names]
    try:
        return LabelSet(tuple(labels))
    except ValueError as error:
        raise ValueError(
            f"{error}. Leave it out (data.labels names the labels to use), add its counterpart, or say in the "
            f"manifest's metadata ({PLACES}) where it is"
        ) from error


def label_from_name(name: str) -> Label:
    """A label whose place is read from its name, see `label_set_of`.

    Raises:
        ValueError: If it names two sides, or a place alone.
    """
    text = name.lower()
    words = text.split()
    sides = [side for side in _SIDES if side in words]
    if len(sides) > 1:
        raise ValueError(
            f"label {name!r} names the sides {sides}: say in the manifest's metadata ({PLACES}) where it is"
        )
    zone = _ZONE.search(text)
    finding = " ".join(word for word in _ZONE.sub("", text).split() if word not in sides)
    if not finding:
        raise ValueError(f"label {name!r} names no finding")
    return Label(name, finding, sides[0] if sides else "none", zone[1] if zone else "")


def _places(text: str) -> dict[str, Any]:
    try:
        places = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{PLACES} must be JSON: {error}") from error
    if not isinstance(places, dict):
        raise ValueError(f"{PLACES} must be an object, got {type(places).__name__}")
    return places


def _with_place(name: str, place: object) -> Label:
    if not isinstance(place, dict) or not {"finding", "side"} <= place.keys() <= {"finding", "side", "zone"}:
        raise ValueError(f"{PLACES} of {name!r} must have finding, side and perhaps zone, got {place!r}")
    return Label(name, place["finding"], place["side"], place.get("zone", ""))
