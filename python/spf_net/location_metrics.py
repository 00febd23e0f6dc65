"""Whether a network knows WHERE a finding is, apart from whether it is there."""

from typing import NamedTuple

import numpy as np
from spf_data.labels import LabelSet

from spf_net.ranking import FloatArray, ratio, weighted_auroc, weighted_mean


def side_auc(scores: FloatArray, labels: FloatArray, weights: FloatArray, label_set: LabelSet) -> FloatArray:
    """Right against left: does the right label score higher where the finding is on the right?

    For each pair of labels that differ in the side alone, over the images where exactly one of the two is present: the
    AUROC of (score of right - score of left) for "it is on the right". The mean over pairs, weighted by their images.

    Args:
        scores: float64 (N, L), logits.
        labels: float64 (N, L) of 1, 0 and NaN.
        weights: float64 (R, N), of the images.
        label_set: L labels.

    Returns:
        float64 (R,); 0.5 is chance, NaN where no pair has images of both sides.
    """
    values, cases = [], []
    for right, left in side_pairs(label_set):
        # A sum with NaN is NaN, so images with an unknown side drop out.
        one_side = labels[:, right] + labels[:, left] == 1
        difference = scores[one_side, right] - scores[one_side, left]
        values.append(weighted_auroc(difference, labels[one_side, right] == 1, weights[:, one_side]))
        cases.append(weights[:, one_side].sum(axis=1))
    return _pooled(values, cases, len(weights))


def side_cases(labels: FloatArray, label_set: LabelSet) -> int:
    """How many cases `side_auc` rests on: images with exactly one label of a pair that occurs on both sides."""
    total = 0
    for right, left in side_pairs(label_set):
        sides = labels[labels[:, right] + labels[:, left] == 1, right]
        if 0 < sides.sum() < len(sides):
            total += len(sides)
    return total


def zone_auc(scores: FloatArray, labels: FloatArray, weights: FloatArray, label_set: LabelSet) -> FloatArray:
    """Zone given presence: among the images that show the finding anywhere, the AUROC of each of its zone labels.

    The mean over the zone labels of all findings that have two or more of them; arguments and result as of `side_auc`.
    """
    values = []
    for finding, zones in zone_labels(label_set).items():
        columns = [index for index, label in enumerate(label_set.labels) if label.finding == finding]
        present = (labels[:, columns] == 1).any(axis=1)
        for zone in zones:
            used = present & ~np.isnan(labels[:, zone])
            values.append(weighted_auroc(scores[used, zone], labels[used, zone] == 1, weights[:, used]))
    return _pooled(values, [np.ones(len(weights))] * len(values), len(weights))


def pair_accuracy(scores: FloatArray, labels: FloatArray, weights: FloatArray, label_set: LabelSet) -> FloatArray:
    """Within an image: the share of (present, absent) zone labels of one finding where the present one scores higher.

    Over all such pairs of all images and findings, ties half; arguments and result as of `side_auc`.
    """
    correct = np.zeros(len(scores))
    pairs = np.zeros(len(scores))
    for zones in zone_labels(label_set).values():
        for first in zones:
            for second in zones:
                pair = (labels[:, first] == 1) & (labels[:, second] == 0)
                higher = (1 + np.sign(scores[:, first] - scores[:, second])) / 2
                correct += np.where(pair, higher, 0.0)
                pairs += pair
    return ratio(weights @ correct, weights @ pairs)


class CalledSides(NamedTuple):
    """What becomes of the images with exactly one label of a pair present, see `called_sides`.

    Attributes:
        cases: float64 (N,), of how many pairs an image is such a case; without those that lack a threshold.
        called: float64 (N,), in how many of them the finding is called, on whichever side.
        wrong: float64 (N,), in how many of the called ones on the wrong side; half a case where both sides score alike.
    """

    cases: FloatArray
    called: FloatArray
    wrong: FloatArray


def called_sides(scores: FloatArray, labels: FloatArray, label_set: LabelSet, thresholds: FloatArray) -> CalledSides:
    """Where a finding is on one side only: is it called, and on which side?

    Scores count from their label's threshold. A finding is called where the higher of right and left is at least 0, and
    the higher one is its side.

    Args:
        scores: float64 (N, L), logits.
        labels: float64 (N, L) of 1, 0 and NaN.
        label_set: L labels.
        thresholds: float64 (L,), in logits, from `spf_net.metrics.youden_thresholds` for example. NaN: not known, so
            that the label's pair has no cases. Infinity: never called.
    """
    result = CalledSides(*(np.zeros(len(scores)) for _ in range(3)))
    for right, left in side_pairs(label_set):
        if np.isnan(thresholds[right] + thresholds[left]):
            continue
        case = labels[:, right] + labels[:, left] == 1
        excess = scores[:, [right, left]] - thresholds[[right, left]]
        called = case & (excess.max(axis=1) >= 0)
        side = np.sign(excess[called, 0] - excess[called, 1])
        truth = np.where(labels[called, right] == 1, 1.0, -1.0)
        result.cases[case] += 1
        result.called[called] += 1
        result.wrong[called] += (1 - side * truth) / 2
    return result


def wrong_side_rate(
    scores: FloatArray, labels: FloatArray, weights: FloatArray, label_set: LabelSet, thresholds: FloatArray
) -> FloatArray:
    """Finding right, side wrong: the share of the called one-sided findings that are called on the wrong side.

    Over all pairs of labels together. It says nothing about the findings that are not called at all: the number of
    calls belongs beside it.

    Args:
        scores: float64 (N, L), logits.
        labels: float64 (N, L) of 1, 0 and NaN.
        weights: float64 (R, N), of the images.
        label_set: L labels.
        thresholds: float64 (L,), see `called_sides`.

    Returns:
        float64 (R,), lower is better, 0.5 is a network that does not know sides; NaN where nothing is called.
    """
    sides = called_sides(scores, labels, label_set, thresholds)
    return ratio(weights @ sides.wrong, weights @ sides.called)


def side_pairs(label_set: LabelSet) -> list[tuple[int, int]]:
    """(right, left) for every pair of labels that differ in the side alone."""
    return [
        (index, mirrored)
        for index, (label, mirrored) in enumerate(zip(label_set.labels, label_set.mirror, strict=True))
        if label.side == "right"
    ]


def zone_labels(label_set: LabelSet) -> dict[str, list[int]]:
    """The labels that name a zone, by finding; findings with a single one are left out."""
    findings: dict[str, list[int]] = {}
    for index, label in enumerate(label_set.labels):
        if label.zone:
            findings.setdefault(label.finding, []).append(index)
    return {finding: zones for finding, zones in findings.items() if len(zones) > 1}


def _pooled(values: list[FloatArray], weights: list[FloatArray], resamples: int) -> FloatArray:
    if not values:
        return np.full(resamples, np.nan)
    return weighted_mean(np.stack(values), np.stack(weights))
