"""Labels and masks, derived from where the findings of a scene are in that very patient's lungs."""

import numpy as np

from spf_data.labels import Label, LabelSet
from spf_data.phantom.anatomy import BoolArray, FloatArray
from spf_data.phantom.catalogue import SIDES, ZONES
from spf_data.phantom.scene import Scene

# A finding that straddles zones counts in each that holds at least this share of its mask.
ZONE_SHARE = 0.25


def labels_of(scene: Scene, label_set: LabelSet) -> FloatArray:
    """The labels of a scene: float32 (L,) of 1 and 0.

    * A label with a side and no zone: 1 where a finding is on that side.
    * A label with a side and a zone: 1 where a finding on that side has at least `ZONE_SHARE` of its mask in that third
      of that lung's box. A finding that straddles zones can hold for two or three.
    * A bilateral label: 1 exactly where the finding's labels hold on both sides. The sided labels stay 1 then.
    * A label without a side: 1 where there is such a finding.
    """
    present = [bool(_findings_of(scene, label, label_set)) for label in label_set.labels]
    return np.array(present, dtype=np.float32)


def label_masks(scene: Scene, label_set: LabelSet) -> BoolArray:
    """Where each label's findings are: bool (L, H, W), empty exactly where the label is 0.

    The findings that make the label hold; of a label with a zone only their part in the zone; of a bilateral label
    the masks of the labels of both sides.
    """
    size = scene.image.shape[0]
    masks = np.zeros((len(label_set), size, size), dtype=np.bool_)
    for number, label in enumerate(label_set.labels):
        for finding, zone in _findings_of(scene, label, label_set):
            rows = scene.lungs[scene.specs[finding].side].zone(ZONES.index(zone)) if zone else slice(None)
            masks[number, rows] |= scene.masks[finding][rows]
    return masks


def _findings_of(scene: Scene, label: Label, label_set: LabelSet) -> list[tuple[int, str]]:
    """Number of each finding that makes a label hold, and the zone in which it does ("" for the whole finding)."""
    if label.finding not in {spec.name for spec in scene.specs}:
        return []
    if label.side == "bilateral":
        right, left = (
            [
                hit
                for other in label_set.labels
                if other.finding == label.finding and other.side == side
                for hit in _findings_of(scene, other, label_set)
            ]
            for side in SIDES
        )
        return right + left if right and left else []
    return [
        (number, label.zone)
        for number, spec in enumerate(scene.specs)
        if spec.name == label.finding and label.side in (SIDES[spec.side], "none") and _holds(scene, number, label.zone)
    ]


def _holds(scene: Scene, finding: int, zone: str) -> bool:
    mask = scene.masks[finding]
    if not zone:
        return bool(mask.any())
    rows = scene.lungs[scene.specs[finding].side].zone(ZONES.index(zone))
    return bool(np.count_nonzero(mask[rows]) >= max(1, ZONE_SHARE * np.count_nonzero(mask)))
