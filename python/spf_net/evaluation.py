"""All metrics of a set of predictions, with confidence intervals, together and by source."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from spf_data.dataset import XrayDataset
from spf_data.labels import LabelSet

from spf_net.bootstrap import patient_resamples, percentile_interval
from spf_net.calibration import Calibration, calibration
from spf_net.location_metrics import called_sides, pair_accuracy, side_auc, side_cases, wrong_side_rate, zone_auc
from spf_net.metrics import (
    LabelMetrics,
    check_scores,
    label_metrics,
    macro_auroc,
    macro_average_precision,
    weighted_macro_auroc,
)
from spf_net.ranking import FloatArray

Statistic = Callable[[FloatArray, FloatArray, FloatArray], FloatArray]
ALL = "all"


class Estimate(NamedTuple):
    """A value with its 95 % confidence interval; NaN where it is not defined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class SideCalls:
    """What the rate of wrong sides rests on: the images with a finding on one side only, pair of labels by pair.

    Attributes:
        cases: How many there are.
        called: In how many of them the finding is called, on either side.
        thresholds: How many of the sided labels have an operating point; the others have no cases.
        sided_labels: How many sided labels there are.
    """

    cases: int
    called: int
    thresholds: int
    sided_labels: int


@dataclass(frozen=True)
class Evaluation:
    """How good a set of predictions is.

    Attributes:
        images: Number of images.
        patients: Number of patients.
        metrics: By name: macro_auroc, weighted_auroc, side_auc, zone_auc, pair_accuracy, and wrong_side_rate where
            there were operating points.
        side_cases: How many cases the side AUC rests on.
        macro_average_precision: Mean over the labels where it is defined.
        labels: Label by label.
        calibration: Label by label.
        side_calls: What wrong_side_rate rests on; none where there were no operating points.
    """

    images: int
    patients: int
    metrics: dict[str, Estimate]
    side_cases: int
    macro_average_precision: float
    labels: LabelMetrics
    calibration: Calibration
    side_calls: SideCalls | None


def _statistics(label_set: LabelSet, thresholds: FloatArray | None) -> dict[str, Statistic]:
    statistics: dict[str, Statistic] = {
        "macro_auroc": macro_auroc,
        "weighted_auroc": weighted_macro_auroc,
        "side_auc": partial(side_auc, label_set=label_set),
        "zone_auc": partial(zone_auc, label_set=label_set),
        "pair_accuracy": partial(pair_accuracy, label_set=label_set),
    }
    if thresholds is not None:
        statistics["wrong_side_rate"] = partial(wrong_side_rate, label_set=label_set, thresholds=thresholds)
    return statistics


def evaluate(
    scores: npt.ArrayLike,
    labels: npt.ArrayLike,
    label_set: LabelSet,
    patients: npt.NDArray[np.str_],
    resamples: int = 200,
    seed: int = 0,
    thresholds: FloatArray | None = None,
) -> Evaluation:
    """Compare scores with labels.

    Args:
        scores: (N, L) logits.
        labels: (N, L) of 1, 0 and NaN; what is not known counts nowhere.
        label_set: L labels.
        patients: (N,), whose image each is; the bootstrap draws patients.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
        thresholds: float64 (L,), operating points in logits (`youden_thresholds` of the validation part): needed for
            the rate of wrong sides.

    Raises:
        ValueError: If shapes do not fit together or a score is not finite.
    """
    scores, labels = check_scores(scores, labels)
    if labels.shape[1] != len(label_set) or patients.shape != (len(labels),):
        raise ValueError(
            f"labels {labels.shape} must have one column for each of {len(label_set)} labels and one row for each of "
            f"the patients {patients.shape}"
        )
    if thresholds is not None and thresholds.shape != (len(label_set),):
        raise ValueError(f"thresholds must be ({len(label_set)},), got {thresholds.shape}")
    once = np.ones((1, len(labels)))
    repeated = patient_resamples(patients, resamples, seed)
    metrics = {}
    for name, statistic in _statistics(label_set, thresholds).items():
        interval = percentile_interval(statistic(scores, labels, repeated))
        metrics[name] = Estimate(float(statistic(scores, labels, once)[0]), *interval)
    by_label = label_metrics(scores, labels)
    return Evaluation(
        images=len(labels),
        patients=len(set(patients)),
        metrics=metrics,
        side_cases=side_cases(labels, label_set),
        macro_average_precision=macro_average_precision(by_label),
        labels=by_label,
        calibration=calibration(scores, labels),
        side_calls=None if thresholds is None else _side_calls(scores, labels, label_set, thresholds),
    )


def _side_calls(scores: FloatArray, labels: FloatArray, label_set: LabelSet, thresholds: FloatArray) -> SideCalls:
    sides = called_sides(scores, labels, label_set, thresholds)
    sided = [label.side in ("right", "left") for label in label_set.labels]
    known = int(np.count_nonzero(~np.isnan(thresholds[sided])))
    return SideCalls(int(sides.cases.sum()), int(sides.called.sum()), known, sum(sided))


def evaluate_by_source(
    scores: npt.NDArray[np.float32],
    labels: npt.NDArray[np.float32],
    label_set: LabelSet,
    patients: npt.NDArray[np.str_],
    sources: npt.NDArray[np.str_],
    resamples: int = 200,
    seed: int = 0,
    thresholds: FloatArray | None = None,
) -> dict[str, Evaluation]:
    """`evaluate` of all images under "all", and of each source under its name where there is more than one."""
    subsets = {ALL: np.ones(len(sources), dtype=bool)}
    names = sorted(set(sources))
    if len(names) > 1:
        subsets |= {str(name): sources == name for name in names}
    return {
        name: evaluate(scores[rows], labels[rows], label_set, patients[rows], resamples, seed, thresholds)
        for name, rows in subsets.items()
    }


def evaluate_rows(
    scores: npt.NDArray[np.float32],
    rows: npt.NDArray[np.int64],
    dataset: XrayDataset,
    resamples: int,
    seed: int,
    thresholds: FloatArray | None = None,
) -> dict[str, Evaluation]:
    """`evaluate_by_source` of some rows of a data set; scores (N, L) are those of the N rows."""
    return evaluate_by_source(
        scores,
        dataset.labels[rows].numpy(),
        dataset.label_set,
        dataset.patients[rows],
        dataset.sources[rows],
        resamples,
        seed,
        thresholds,
    )
