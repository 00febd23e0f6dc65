"""How well each label is ranked: AUROC and average precision a label, their means, and operating points."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from spf_net.ranking import FloatArray, weighted_auroc, weighted_mean


@dataclass(frozen=True)
class LabelMetrics:
    """One value a label, in the order of the label set.

    Attributes:
        auroc: float64 (L,), NaN for a label without known positives or negatives.
        average_precision: float64 (L,), NaN likewise.
        positives: int64 (L,).
        negatives: int64 (L,).
    """

    auroc: FloatArray
    average_precision: FloatArray
    positives: npt.NDArray[np.int64]
    negatives: npt.NDArray[np.int64]

    @property
    def defined(self) -> int:
        """Number of labels that have an AUROC."""
        return int(np.count_nonzero(~np.isnan(self.auroc)))


def label_metrics(scores: npt.ArrayLike, labels: npt.ArrayLike) -> LabelMetrics:
    """AUROC and average precision of each label, by scikit-learn, over the images where it is known.

    Args:
        scores: (N, L), finite.
        labels: (N, L) of 1, 0 and NaN.

    Raises:
        ValueError: If the shapes differ or a score is not finite.
    """
    scores, labels = check_scores(scores, labels)
    positives, negatives = (labels == 1).sum(axis=0), (labels == 0).sum(axis=0)
    auroc = np.full(labels.shape[1], np.nan)
    average_precision = np.full(labels.shape[1], np.nan)
    for column in np.flatnonzero((positives > 0) & (negatives > 0)):
        known = ~np.isnan(labels[:, column])
        auroc[column] = roc_auc_score(labels[known, column], scores[known, column])
        average_precision[column] = average_precision_score(labels[known, column], scores[known, column])
    return LabelMetrics(auroc, average_precision, positives, negatives)


def macro_auroc(scores: FloatArray, labels: FloatArray, weights: FloatArray) -> FloatArray:
    """Mean of the labels' AUROCs, undefined ones left out.

    Args:
        scores: float64 (N, L).
        labels: float64 (N, L) of 1, 0 and NaN.
        weights: float64 (R, N), of the images.

    Returns:
        float64 (R,).
    """
    values, _ = _label_auroc(scores, labels, weights)
    return weighted_mean(values, np.ones_like(values))


def weighted_macro_auroc(scores: FloatArray, labels: FloatArray, weights: FloatArray) -> FloatArray:
    """Mean of the labels' AUROCs, each weighted by its number of positives; arguments as of `macro_auroc`."""
    return weighted_mean(*_label_auroc(scores, labels, weights))


def macro_average_precision(labels: LabelMetrics) -> float:
    """Mean of the labels' average precisions, undefined ones left out; NaN where none is defined."""
    defined = labels.average_precision[~np.isnan(labels.average_precision)]
    return float(defined.mean()) if len(defined) else float("nan")


def youden_thresholds(scores: npt.ArrayLike, labels: npt.ArrayLike) -> FloatArray:
    """For each label the score from which it is called, so that Youden's J (sensitivity + specificity - 1) is largest.

    Choose them on the validation part: chosen on the images that they are then used on, they are too good. Of several
    with the same J it is the highest; a label that no threshold ranks better than chance gets infinity, never called.

    Args:
        scores: (N, L), finite.
        labels: (N, L) of 1, 0 and NaN.

    Returns:
        float64 (L,), NaN for a label without known positives or negatives. A label is called where score >= threshold.

    Raises:
        ValueError: If the shapes differ or a score is not finite.
    """
    scores, labels = check_scores(scores, labels)
    thresholds = np.full(labels.shape[1], np.nan)
    for column in np.flatnonzero((labels == 1).any(axis=0) & (labels == 0).any(axis=0)):
        known = ~np.isnan(labels[:, column])
        false_calls, calls, steps = roc_curve(labels[known, column], scores[known, column], drop_intermediate=False)
        thresholds[column] = steps[np.argmax(calls - false_calls)]
    return thresholds


def _label_auroc(scores: FloatArray, labels: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """AUROC and weight of the positives, (L, R) each."""
    values, positives = [], []
    for score, label in zip(scores.T, labels.T, strict=True):
        known = ~np.isnan(label)
        values.append(weighted_auroc(score[known], label[known] == 1, weights[:, known]))
        positives.append(weights[:, label == 1].sum(axis=1))
    return np.stack(values), np.stack(positives)


def check_scores(scores: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Both as float64 (N, L).

    Raises:
        ValueError: If the shapes differ or a score is not finite.
    """
    checked = np.asarray(scores, dtype=np.float64)
    truth = np.asarray(labels, dtype=np.float64)
    if checked.ndim != 2 or checked.shape != truth.shape:
        raise ValueError(f"scores and labels must both be (N, L), got {checked.shape} and {truth.shape}")
    if not np.isfinite(checked).all():
        raise ValueError(f"scores must be finite, got {np.count_nonzero(~np.isfinite(checked))} that are not")
    return checked, truth
