"""Example images with the evidence for one of their findings on top."""

from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_erosion
from scipy.special import expit
from spf_data.dataset import XrayDataset

from spf_net.pointing import BoolArray, finding_truth
from spf_net.positions import to_image
from spf_net.ranking import FloatArray
from spf_net.run_evaluation import RunEvaluation, row_evidence, why_no_evidence

# Of Okabe and Ito: told apart by colour-blind readers, and from grey.
_FOR, _AGAINST, _OUTLINE = (np.array(colour) / 255 for colour in ((230, 110, 0), (0, 114, 210), (240, 228, 66)))
_OPACITY = 0.75
# Smaller images are enlarged by a whole factor: an outline should not be an image pixel wide.
_MIN_SIDE = 192


class Overlay(NamedTuple):
    """What one network makes of an example.

    Attributes:
        run: Name of the network's run.
        probability: Of the example's label.
        picture: uint8 (P, P, 3), the image under the evidence; none where the logit has no exact split.
        reason: Why there is no picture; "" where there is one.
    """

    run: str
    probability: float
    picture: npt.NDArray[np.uint8] | None
    reason: str


@dataclass(frozen=True)
class Example:
    """One image and one finding on it.

    Attributes:
        row: Of the data set.
        label: Name of the finding.
        image: uint8 (P, P), its first channel.
        overlays: One a network.
    """

    row: int
    label: str
    image: npt.NDArray[np.uint8]
    overlays: list[Overlay]


def choose_examples(labels: npt.NDArray[np.float32], count: int) -> list[tuple[int, int]]:
    """Images and findings that show many labels, chosen without a look at any score.

    In the order of the images, each with the label present in it that has been shown least; images that would only
    repeat a label wait until no image shows a new one.

    Args:
        labels: (N, L) of 1, 0 and NaN.
        count: How many, at most.

    Returns:
        (image, label) pairs, each image once.
    """
    shown = np.zeros(labels.shape[1], dtype=int)
    remaining = [row for row in range(len(labels)) if (labels[row] == 1).any()]
    chosen: list[tuple[int, int]] = []
    while remaining and len(chosen) < count:
        fewest = [int(shown[labels[row] == 1].min()) for row in remaining]
        row = remaining.pop(int(np.argmin(fewest)))
        present = np.flatnonzero(labels[row] == 1)
        label = int(present[np.argmin(shown[present])])
        shown[label] += 1
        chosen.append((row, label))
    return chosen


def make_examples(runs: list[RunEvaluation], dataset: XrayDataset, count: int) -> list[Example]:
    """Examples from the images that are in the test part of every run.

    Args:
        runs: At least one.
        dataset: What all of them were evaluated on.
        count: How many examples, at most.
    """
    rows = reduce(np.intersect1d, [run.rows for run in runs])
    pairs = choose_examples(dataset.labels[rows].numpy(), count)
    reasons = {run.name: why_no_evidence(run.network, dataset) for run in runs}
    return [_example(runs, dataset, int(rows[place]), label, reasons) for place, label in pairs]


def _example(runs: list[RunEvaluation], dataset: XrayDataset, row: int, label: int, reasons: dict[str, str]) -> Example:
    grey = dataset[row]["image"][0].double().numpy()
    truth = finding_truth(dataset)
    outline = np.zeros(grey.shape, dtype=bool) if truth is None else truth.masks(row)[label]
    factor = max(1, _MIN_SIDE // len(grey))
    grey, outline = (pixels.repeat(factor, axis=0).repeat(factor, axis=1) for pixels in (grey, outline))
    overlays = []
    for run in runs:
        probability = float(expit(run.scores[np.searchsorted(run.rows, row), label]))
        picture = None
        if not reasons[run.name]:
            (found,) = row_evidence(run.network, dataset, np.array([row]), [label])
            picture = draw_evidence(grey, to_image(found.maps[0], found.positions, len(grey)), outline)
        overlays.append(Overlay(run.name, probability, picture, reasons[run.name]))
    return Example(row, dataset.label_set.names[label], _to_bytes(grey), overlays)


def draw_evidence(grey: FloatArray, values: FloatArray, truth: BoolArray) -> npt.NDArray[np.uint8]:
    """Evidence over an image: orange speaks for the finding, blue against it, as opaque as it is strong.

    Args:
        grey: (S, S) in [0, 1].
        values: (S, S), the evidence; the strongest value, of either sign, is the most opaque one.
        truth: bool (S, S), outlined in yellow.

    Returns:
        uint8 (S, S, 3).

    Raises:
        ValueError: If the shapes differ.
    """
    if not grey.shape == values.shape == truth.shape:
        raise ValueError(f"grey, values, truth must have one shape, got {grey.shape}, {values.shape}, {truth.shape}")
    strongest = np.abs(values).max()
    opacity = (_OPACITY * np.abs(values) / strongest if strongest > 0 else np.zeros_like(values))[..., None]
    colour = np.where(values[..., None] > 0, _FOR, _AGAINST)
    picture = (1 - opacity) * grey[..., None] + opacity * colour
    picture[truth & ~binary_erosion(truth)] = _OUTLINE
    return _to_bytes(picture)


def _to_bytes(values: FloatArray) -> npt.NDArray[np.uint8]:
    rounded: npt.NDArray[np.uint8] = (values * 255).round().clip(0, 255).astype(np.uint8)
    return rounded
