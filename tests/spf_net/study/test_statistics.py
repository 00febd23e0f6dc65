"""Measures within folds and paired differences, on cases worked out by hand."""

from itertools import product

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from spf_data.labels import Label, LabelSet
from spf_net import location_metrics, metrics
from spf_net.bootstrap import patient_resamples
from spf_net.evaluation import Estimate
from spf_net.study.statistics import (
    MACRO_AUROC,
    PAIR_ACCURACY,
    SIDE_AUC,
    auroc_within_folds,
    difference,
    macro_auroc,
    measure,
    side_auc,
    statistics,
    verdict,
)

LABELS = LabelSet(
    tuple(
        Label(f"{side} {zone} opacity", "opacity", side, zone)  # type: ignore[arg-type]
        for side, zone in product(("right", "left"), ("upper", "lower"))
    )
)
NAN = float("nan")


def sample(seed: int, images: int = 60):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, (images, 4)).astype(np.float64)
    labels[random.random(labels.shape) < 0.1] = NAN
    scores = np.nan_to_num(labels) + random.standard_normal(labels.shape)
    weights = random.integers(0, 3, (5, images)).astype(np.float64)
    return scores, labels, weights


def test_pairs_of_two_folds_do_not_count() -> None:
    # within each fold the positive is above the negative; the folds' scales are far apart
    scores, targets = np.array([1.0, 0.0, 101.0, 100.0]), np.array([True, False, True, False])
    folds = np.array([0, 0, 1, 1])
    weights = np.ones((1, 4))
    assert auroc_within_folds(scores, targets, weights, folds).tolist() == [1.0]
    assert auroc_within_folds(scores, targets, weights, np.zeros(4, dtype=np.int64)).tolist() == [0.75]


def test_folds_weigh_by_their_pairs() -> None:
    random = np.random.default_rng(1)
    scores, targets, folds = random.standard_normal(80), random.random(80) < 0.3, random.integers(0, 3, 80)
    pairs = [
        (
            targets[folds == fold].sum() * (~targets[folds == fold]).sum(),
            roc_auc_score(targets[folds == fold], scores[folds == fold]),
        )
        for fold in range(3)
    ]
    expected = sum(count * value for count, value in pairs) / sum(count for count, _ in pairs)
    assert auroc_within_folds(scores, targets, np.ones((1, 80)), folds) == pytest.approx([expected], abs=1e-12)


def test_no_pair_is_undefined() -> None:
    assert np.isnan(
        auroc_within_folds(np.zeros(2), np.array([True, True]), np.ones((1, 2)), np.zeros(2, dtype=np.int64))
    )
    assert np.isnan(
        auroc_within_folds(np.zeros(0), np.zeros(0, dtype=bool), np.ones((1, 0)), np.zeros(0, dtype=np.int64))
    )


def test_with_one_fold_the_measures_are_those_of_an_evaluation() -> None:
    scores, labels, weights = sample(2)
    folds = np.zeros(len(scores), dtype=np.int64)
    assert macro_auroc(scores, labels, weights, folds) == pytest.approx(metrics.macro_auroc(scores, labels, weights))
    expected = location_metrics.side_auc(scores, labels, weights, LABELS)
    assert side_auc(scores, labels, weights, folds, LABELS) == pytest.approx(expected)
    assert list(statistics(LABELS, folds)) == [MACRO_AUROC, PAIR_ACCURACY, SIDE_AUC]


def test_a_weight_is_a_repetition() -> None:
    scores, labels, weights = sample(3)
    folds = np.arange(len(scores)) % 3
    repeated = np.repeat(np.arange(len(scores)), weights[0].astype(int))
    once = np.ones((1, len(repeated)))
    expected = macro_auroc(scores[repeated], labels[repeated], once, folds[repeated])
    assert macro_auroc(scores, labels, weights[:1], folds) == pytest.approx(expected)


def test_a_measure_is_the_mean_over_seeds_and_a_difference_is_paired() -> None:
    scores, labels, _ = sample(4)
    weights = patient_resamples(np.array([str(row // 2) for row in range(len(scores))]), 200, 0)
    statistic = statistics(LABELS, np.zeros(len(scores), dtype=np.int64))[MACRO_AUROC]
    seeds = [scores.astype(np.float32), (scores + 0.1 * sample(5)[0]).astype(np.float32)]
    one, two = (measure(statistic, [seed], labels, weights) for seed in seeds)
    both = measure(statistic, seeds, labels, weights)
    assert both.value == pytest.approx((one.value + two.value) / 2)
    assert both.spread == pytest.approx(abs(one.value - two.value) / 2**0.5)
    assert one.spread == 0
    assert both.estimate.low < both.value < both.estimate.high
    assert difference(both, both) == Estimate(0, 0, 0)
    # two measures that move together: the difference is far more certain than either
    paired = difference(one, two)
    assert paired.high - paired.low < (one.estimate.high - one.estimate.low) / 2
    with pytest.raises(ValueError, match="scores must hold at least one seed"):
        measure(statistic, [], labels, weights)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0.01, 0.1, "win"), (-0.1, -0.01, "loss"), (-0.1, 0.1, "tie"), (0.0, 0.1, "tie"), (NAN, NAN, "tie")],
)
def test_a_win_is_an_interval_above_zero(low: float, high: float, expected: str) -> None:
    assert verdict(Estimate((low + high) / 2, low, high)) == expected
