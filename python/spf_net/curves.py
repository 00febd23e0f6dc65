"""ROC and precision-recall curves, thinned to what a small picture can show."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.metrics import precision_recall_curve, roc_curve

from spf_net.metrics import check_scores
from spf_net.ranking import FloatArray

MAX_POINTS = 200


class Curves(NamedTuple):
    """Both curves of one label, or of several pooled.

    Attributes:
        roc: float64 (P, 2): share of false calls, share of positives called. From (0, 0) to (1, 1).
        precision_recall: float64 (Q, 2): recall, precision. From recall 0 to 1.
    """

    roc: FloatArray
    precision_recall: FloatArray


def curves(scores: npt.ArrayLike, labels: npt.ArrayLike, max_points: int = MAX_POINTS) -> Curves:
    """ROC and precision-recall curve of all known (image, label) pairs together.

    Args:
        scores: (N, L), finite.
        labels: (N, L) of 1, 0 and NaN.
        max_points: Of each curve, the ends always among them.

    Returns:
        Curves without points where positives or negatives are lacking.

    Raises:
        ValueError: If the shapes differ, a score is not finite, or `max_points` is below 2.
    """
    if max_points < 2:
        raise ValueError(f"max_points must be at least 2, got {max_points}")
    scores, labels = check_scores(scores, labels)
    known = ~np.isnan(labels)
    score, label = scores[known], labels[known]
    if not 0 < label.sum() < len(label):
        return Curves(np.zeros((0, 2)), np.zeros((0, 2)))
    false_calls, calls, _ = roc_curve(label, score)
    precision, recall, _ = precision_recall_curve(label, score, drop_intermediate=True)
    # scikit-learn starts at the lowest threshold, where everything is called.
    return Curves(
        _thin(np.stack([false_calls, calls], axis=1), max_points),
        _thin(np.stack([recall, precision], axis=1)[::-1], max_points),
    )


def _thin(points: FloatArray, max_points: int) -> FloatArray:
    if len(points) <= max_points:
        return points
    thinned: FloatArray = points[np.linspace(0, len(points) - 1, max_points).round().astype(int)]
    return thinned
