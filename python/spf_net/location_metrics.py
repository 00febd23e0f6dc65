"""Whether a network knows WHERE a finding is, apart from whether it is there."""

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
