"""The pointing game: is the strongest evidence for a finding where the finding is?"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt
from spf_data.boxes import box_mask
from spf_data.dataset import XrayDataset
from spf_data.labels import LabelSet

from spf_net.bootstrap import patient_resamples, percentile_interval
from spf_net.evaluation import Estimate
from spf_net.positions import MapPositions, spacing
from spf_net.ranking import FloatArray, ratio

BoolArray = npt.NDArray[np.bool_]

_THIRDS = {"upper": 0, "middle": 1, "lower": 2}


class Hits(NamedTuple):
    """One image, label by label; NaN for a label without truth.

    Attributes:
        hit: float64 (K,), 1 or 0; where several pixels share the maximum, the share of them that hit.
        chance: float64 (K,), of a pixel of the maps drawn at random: the share of them that would hit.
    """

    hit: FloatArray
    chance: FloatArray


class Truth(NamedTuple):
    """Where the findings of a data set are.

    Attributes:
        source: How that is known.
        masks: Of a row of the data set, bool (L, S, S); empty for labels whose place is not known.
    """

    source: str
    masks: Callable[[int], BoolArray]


@dataclass(frozen=True)
class PointingGame:
    """How often the maximum of a label's evidence falls on the finding.

    Attributes:
        hit_rate: Over all cases, with the interval of patients resampled.
        chance: What maps without any knowledge reach: the cases' mean share of map pixels that would hit.
        cases: (image, present label) pairs whose place is known.
        without_truth: Pairs whose place is not known; they count nowhere.
        images: Images looked at.
        truth: How the places are known.
    """

    hit_rate: Estimate
    chance: float
    cases: int
    without_truth: int
    images: int
    truth: str


def pointing_hits(maps: FloatArray, positions: MapPositions, truths: BoolArray, tolerance: float | None = None) -> Hits:
    """Whether the maximum of each map falls on its truth (Zhang et al. 2016, "Excitation Backprop", section 4.1).

    The maximum is taken over the pixels of the map, and its centre is looked up in the image.

    Args:
        maps: (K, H, W), evidence for K labels, finite.
        positions: Of the maps' pixels in the image.
        truths: bool (K, S, S), where each label's finding is.
        tolerance: Largest distance in image pixels from the maximum's centre to the nearest pixel of the truth. By
            default half the diagonal of a map pixel: a maximum whose map pixel touches the finding is then a hit,
            however coarse the maps. `chance` grows with it.

    Raises:
        ValueError: If the shapes do not fit together, a map is not finite, or the tolerance is negative.
    """
    if maps.ndim != 3 or maps.shape[1:] != (len(positions.rows), len(positions.columns)):
        raise ValueError(f"maps must be (K, {len(positions.rows)}, {len(positions.columns)}), got {maps.shape}")
    if truths.ndim != 3 or len(truths) != len(maps) or truths.shape[1] != truths.shape[2]:
        raise ValueError(f"truths must be ({len(maps)}, S, S), got {truths.shape}")
    if not np.isfinite(maps).all():
        raise ValueError(f"maps must be finite, got {np.count_nonzero(~np.isfinite(maps))} values that are not")
    size = truths.shape[1]
    if tolerance is None:
        tolerance = float(np.hypot(spacing(positions.rows), spacing(positions.columns)) * size / 2)
    if not tolerance >= 0:
        raise ValueError(f"tolerance must not be negative, got {tolerance}")
    rows, columns = ((centres * size).astype(int).clip(0, size - 1) for centres in positions)
    hit, chance = np.full(len(maps), np.nan), np.full(len(maps), np.nan)
    for index in np.flatnonzero(truths.any(axis=(1, 2))):
        distance = distance_transform_edt(~truths[index])[np.ix_(rows, columns)]
        would_hit = distance <= tolerance
        hit[index] = would_hit[maps[index] == maps[index].max()].mean()
        chance[index] = would_hit.mean()
    return Hits(hit, chance)


def pointing_game(
    hits: list[Hits], present: BoolArray, patients: npt.NDArray[np.str_], truth: str, resamples: int, seed: int
) -> PointingGame:
    """Put the images together.

    Args:
        hits: Of N images, each of L labels.
        present: bool (N, L), which labels count.
        patients: (N,), whose image each is.
        truth: How the places are known, in words.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        ValueError: If there are no images or the shapes do not fit together.
    """
    if len(hits) == 0 or present.shape != (len(hits), len(hits[0].hit)) or patients.shape != (len(hits),):
        raise ValueError(
            f"hits, present, patients must be of the same images, at least one, got {len(hits)}, {present.shape}, "
            f"{patients.shape}"
        )
    hit, chance = (np.stack(values) for values in zip(*hits, strict=True))
    counted = present & ~np.isnan(hit)
    sums, cases = np.where(counted, hit, 0).sum(axis=1), counted.sum(axis=1)

    def rate(weights: FloatArray) -> FloatArray:
        return ratio(weights @ sums, weights @ cases)

    interval = percentile_interval(rate(patient_resamples(patients, resamples, seed)))
    return PointingGame(
        hit_rate=Estimate(float(rate(np.ones((1, len(hits))))[0]), *interval),
        chance=float(chance[counted].mean()) if counted.any() else float("nan"),
        cases=int(counted.sum()),
        without_truth=int((present & ~counted).sum()),
        images=len(hits),
        truth=truth,
    )


def finding_truth(dataset: XrayDataset) -> Truth | None:
    """The best a data set knows of the places of its findings: masks, else thirds of the lung boxes, else nothing."""
    try:
        dataset.mask(0)
    except NotImplementedError:
        boxes = dataset.lung_boxes.numpy()
        if np.isnan(boxes).all() or not any(label.zone in _THIRDS for label in dataset.label_set.labels):
            return None
        return Truth(
            "thirds of the lung boxes", lambda row: zone_masks(boxes[row], dataset.label_set, dataset.image_size)
        )
    return Truth("masks of the findings", dataset.mask)


def zone_masks(lungs: npt.NDArray[np.floating], label_set: LabelSet, size: int) -> BoolArray:
    """The third of the lung box that each zone label names.

    Args:
        lungs: (2, 4), boxes (x, y, width, height) of the patient's right and left lung as shares of the image's side.
        label_set: L labels.
        size: S, height and width of the image.

    Returns:
        bool (L, S, S), empty for labels without a side or a zone, and where the box is not known.
    """
    masks = np.zeros((len(label_set), size, size), dtype=bool)
    for index, label in enumerate(label_set.labels):
        if label.zone in _THIRDS and label.side in ("right", "left"):
            x, y, width, height = lungs[("right", "left").index(label.side)].tolist()
            third = (x, y + height * _THIRDS[label.zone] / 3, width, height / 3)
            masks[index] = box_mask(np.array([third]), size)
    return masks
