"""Whether probabilities mean what they say: Brier score and calibration error a label, reliability curves."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from spf_net.metrics import check_scores
from spf_net.ranking import FloatArray

BINS = 10


class ReliabilityCurve(NamedTuple):
    """What is predicted and what is observed, bin by bin, from the lowest to the highest probability.

    Attributes:
        predicted: float64 (K,), mean probability of each bin.
        observed: float64 (K,), share of positives in it.
        counts: int64 (K,), how many cases it holds.
    """

    predicted: FloatArray
    observed: FloatArray
    counts: npt.NDArray[np.int64]

    @property
    def error(self) -> float:
        """Mean distance between predicted and observed, weighted by the bins' cases; NaN without any."""
        if len(self.counts) == 0:
            return float("nan")
        return float(np.average(np.abs(self.predicted - self.observed), weights=self.counts))


@dataclass(frozen=True)
class Calibration:
    """One value a label, in the order of the label set; lower is better.

    Attributes:
        brier: float64 (L,), mean squared distance between probability and label, NaN where no image is known.
        error: float64 (L,), expected calibration error over bins of equally many images, NaN likewise. It is never
            negative, so it is above 0 for perfect probabilities too, the more the fewer images there are.
    """

    brier: FloatArray
    error: FloatArray

    @property
    def macro_brier(self) -> float:
        """Mean over the labels where it is defined; NaN where it is for none."""
        return _mean(self.brier)

    @property
    def macro_error(self) -> float:
        """Mean over the labels where it is defined; NaN where it is for none."""
        return _mean(self.error)


def calibration(logits: npt.ArrayLike, labels: npt.ArrayLike, bins: int = BINS) -> Calibration:
    """Brier score and calibration error of each label, over the images where it is known.

    Args:
        logits: (N, L), finite.
        labels: (N, L) of 1, 0 and NaN.
        bins: Of the calibration error.

    Raises:
        ValueError: If the shapes differ, a logit is not finite, or there are no bins.
    """
    scores, labels = check_scores(logits, labels)
    probabilities = expit(scores)
    known = ~np.isnan(labels)
    squares = np.where(known, (probabilities - np.where(known, labels, 0)) ** 2, 0).sum(axis=0)
    counts = known.sum(axis=0)
    brier = np.full(labels.shape[1], np.nan)
    np.divide(squares, counts, out=brier, where=counts > 0)
    curves = [
        reliability_curve(probability, label, bins)
        for probability, label in zip(probabilities.T, labels.T, strict=True)
    ]
    return Calibration(brier, np.array([curve.error for curve in curves]))


def reliability_curve(probabilities: npt.ArrayLike, labels: npt.ArrayLike, bins: int = BINS) -> ReliabilityCurve:
    """Predicted against observed, in bins of equally many cases (Nixon et al. 2019, "adaptive calibration error").

    Bins end at quantiles, so equal probabilities share a bin and the order of the cases does not matter; where many are
    equal there are fewer bins.

    Args:
        probabilities: (N,) in [0, 1].
        labels: (N,) of 1, 0 and NaN; what is not known is left out.
        bins: How many, at most.

    Raises:
        ValueError: If the shapes differ, a probability is outside [0, 1], or there are no bins.
    """
    predicted, truth = np.asarray(probabilities, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if predicted.ndim != 1 or predicted.shape != truth.shape:
        raise ValueError(f"probabilities and labels must both be (N,), got {predicted.shape} and {truth.shape}")
    if not ((predicted >= 0) & (predicted <= 1)).all():
        raise ValueError(f"probabilities must be in [0, 1], got {predicted.min()} to {predicted.max()}")
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    known = ~np.isnan(truth)
    predicted, truth = predicted[known], truth[known]
    if len(predicted) == 0:
        return ReliabilityCurve(np.zeros(0), np.zeros(0), np.zeros(0, dtype=np.int64))
    ends = np.quantile(predicted, np.arange(1, bins) / bins)
    of_case = np.searchsorted(ends, predicted, side="right")
    counts = np.bincount(of_case, minlength=bins)
    used = counts > 0
    sums = np.bincount(of_case, weights=predicted, minlength=bins), np.bincount(of_case, weights=truth, minlength=bins)
    return ReliabilityCurve(sums[0][used] / counts[used], sums[1][used] / counts[used], counts[used])


def _mean(values: FloatArray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")
