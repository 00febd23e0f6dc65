"""Measures of several seeds, and their differences, all on the same resamples of the patients.

AUROCs count pairs of images of one fold only: logits of different folds come from different networks. With one test
part there is one fold.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt
from spf_data.labels import LabelSet

from spf_net.bootstrap import percentile_interval
from spf_net.evaluation import Estimate
from spf_net.location_metrics import pair_accuracy, side_pairs
from spf_net.ranking import FloatArray, weighted_auroc, weighted_mean
from spf_net.study.store import Scores

Folds = npt.NDArray[np.int64]
Statistic = Callable[[FloatArray, FloatArray, FloatArray], FloatArray]
Verdict = Literal["win", "tie", "loss"]
PAIR_ACCURACY, MACRO_AUROC, SIDE_AUC = "pair_accuracy", "macro_auroc", "side_auc"


@dataclass(frozen=True)
class Measured:
    """A measure, mean over the seeds.

    Attributes:
        value: On the images as they are.
        spread: Standard deviation over the seeds; 0 with one seed.
        draws: float64 (R,), on each resample of the patients.
    """

    value: float
    spread: float
    draws: FloatArray

    @property
    def estimate(self) -> Estimate:
        """With the middle 95 % of the resamples."""
        return Estimate(self.value, *percentile_interval(self.draws))


def auroc_within_folds(
    scores: FloatArray, targets: npt.NDArray[np.bool_], weights: FloatArray, folds: Folds
) -> FloatArray:
    """Share of the pairs of a positive and a negative of one fold in which the positive scores higher, ties half.

    Args:
        scores: float64 (N,).
        targets: bool (N,).
        weights: float64 (R, N), of the images.
        folds: int64 (N,).

    Returns:
        float64 (R,), NaN where there is no pair.
    """
    values, pairs = [], []
    for fold in np.unique(folds):
        rows = folds == fold
        values.append(weighted_auroc(scores[rows], targets[rows], weights[:, rows]))
        pairs.append(weights[:, rows & targets].sum(axis=1) * weights[:, rows & ~targets].sum(axis=1))
    return weighted_mean(np.stack(values), np.stack(pairs)) if values else np.full(len(weights), np.nan)


def macro_auroc(scores: FloatArray, labels: FloatArray, weights: FloatArray, folds: Folds) -> FloatArray:
    """Mean over the labels of `auroc_within_folds`, undefined ones left out.

    Args:
        scores: float64 (N, L).
        labels: float64 (N, L) of 1, 0 and NaN.
        weights: float64 (R, N).
        folds: int64 (N,).

    Returns:
        float64 (R,).
    """
    known = ~np.isnan(labels)
    values = np.stack(
        [
            auroc_within_folds(scores[rows, label], labels[rows, label] == 1, weights[:, rows], folds[rows])
            for label, rows in enumerate(known.T)
        ]
    )
    return weighted_mean(values, np.ones_like(values))


def side_auc(
    scores: FloatArray, labels: FloatArray, weights: FloatArray, folds: Folds, label_set: LabelSet
) -> FloatArray:
    """As `spf_net.location_metrics.side_auc`, but within folds; arguments as of `macro_auroc`."""
    values, cases = [], []
    for right, left in side_pairs(label_set):
        # A sum with NaN is NaN, so images with an unknown side drop out.
        rows = labels[:, right] + labels[:, left] == 1
        difference = scores[rows, right] - scores[rows, left]
        values.append(auroc_within_folds(difference, labels[rows, right] == 1, weights[:, rows], folds[rows]))
        cases.append(weights[:, rows].sum(axis=1))
    return weighted_mean(np.stack(values), np.stack(cases))


def statistics(label_set: LabelSet, folds: Folds) -> dict[str, Statistic]:
    """The measures of the study by name: macro AUROC, pair accuracy, side AUC.

    Pairs of zones are of one image, so folds do not matter to their accuracy.
    """
    return {
        MACRO_AUROC: partial(macro_auroc, folds=folds),
        PAIR_ACCURACY: partial(pair_accuracy, label_set=label_set),
        SIDE_AUC: partial(side_auc, folds=folds, label_set=label_set),
    }


def measure(statistic: Statistic, scores: Sequence[Scores], labels: FloatArray, weights: FloatArray) -> Measured:
    """A measure of every seed's scores, averaged.

    Args:
        statistic: One of `statistics`.
        scores: For each seed float32 (N, L).
        labels: float64 (N, L).
        weights: float64 (R, N), the same for all that is to be compared.

    Raises:
        ValueError: If there are no scores.
    """
    if not scores:
        raise ValueError("scores must hold at least one seed, got none")
    # The images as they are come along as one more resample.
    weights = np.concatenate([np.ones((1, weights.shape[1])), weights])
    values = np.stack([statistic(each.astype(np.float64), labels, weights) for each in scores])
    spread = float(values[:, 0].std(ddof=1)) if len(scores) > 1 else 0.0
    mean = values.mean(axis=0)
    return Measured(float(mean[0]), spread, mean[1:])


def difference(first: Measured, second: Measured) -> Estimate:
    """First minus second with its paired 95 % interval: resample by resample, so on the same patients."""
    return Estimate(first.value - second.value, *percentile_interval(first.draws - second.draws))


def verdict(estimate: Estimate) -> Verdict:
    """A win is an interval above 0, a loss one below; all else, an undefined one too, is a tie."""
    if math.isnan(estimate.low):
        return "tie"
    if estimate.low > 0:
        return "win"
    return "loss" if estimate.high < 0 else "tie"
