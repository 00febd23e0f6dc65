"""Side, zone and pair metrics on cases worked out by hand."""

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from spf_data.labels import Label, LabelSet
from spf_net.location_metrics import (
    called_sides,
    pair_accuracy,
    side_auc,
    side_cases,
    side_pairs,
    wrong_side_rate,
    zone_auc,
    zone_labels,
)

NAN = float("nan")
LABELS = LabelSet(
    (
        Label("right upper opacity", "opacity", "right", "upper"),
        Label("left upper opacity", "opacity", "left", "upper"),
        Label("right lower opacity", "opacity", "right", "lower"),
        Label("left lower opacity", "opacity", "left", "lower"),
        Label("bilateral opacities", "opacity", "bilateral"),
        Label("right cavity", "cavity", "right"),
        Label("left cavity", "cavity", "left"),
        Label("large heart", "large heart", "none"),
    )
)


def once(rows: np.ndarray) -> np.ndarray:
    return np.ones((1, len(rows)))


def random_case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = (random.random((80, 8)) < 0.4).astype(float)
    labels[random.random((80, 8)) < 0.2] = NAN
    return random.normal(size=(80, 8)), labels


def test_the_pairs_and_zones_of_a_label_set() -> None:
    assert side_pairs(LABELS) == [(0, 1), (2, 3), (5, 6)]
    assert zone_labels(LABELS) == {"opacity": [0, 1, 2, 3]}


@pytest.mark.parametrize("seed", range(3))
def test_side_auc_is_the_mean_over_pairs_weighted_by_cases(seed: int) -> None:
    scores, labels = random_case(seed)
    values, cases = [], []
    for right, left in side_pairs(LABELS):
        rows = [i for i, row in enumerate(labels) if {row[right], row[left]} == {0.0, 1.0}]
        values.append(roc_auc_score(labels[rows, right], scores[rows, right] - scores[rows, left]))
        cases.append(len(rows))
    expected = np.average(values, weights=cases)
    assert side_cases(labels, LABELS) == sum(cases)
    assert side_auc(scores, labels, once(labels), LABELS)[0] == pytest.approx(expected, abs=1e-12)


def test_side_auc_does_not_ask_whether_the_finding_is_there() -> None:
    labels = np.zeros((4, 8))
    labels[[0, 1], 5] = 1
    labels[[2, 3], 6] = 1
    scores = np.zeros((4, 8))
    # Equally sure of both sides, however sure: no knowledge of the side.
    scores[:, 5] = scores[:, 6] = [9.0, -9.0, 3.0, 0.0]
    assert side_auc(scores, labels, once(labels), LABELS)[0] == 0.5
    scores[:2, 5] += 1e-3
    assert side_auc(scores, labels, once(labels), LABELS)[0] == 1.0


def test_a_pair_seen_on_one_side_alone_is_no_case() -> None:
    labels = np.zeros((5, 8))
    labels[[0, 1], 5] = 1
    assert side_cases(labels, LABELS) == 0
    labels[2, 6] = 1
    assert side_cases(labels, LABELS) == 3


@pytest.mark.parametrize("seed", range(3))
def test_zone_auc_looks_only_where_the_finding_is(seed: int) -> None:
    scores, labels = random_case(seed)
    present = (labels[:, :5] == 1).any(axis=1)
    values = []
    for zone in range(4):
        rows = present & ~np.isnan(labels[:, zone])
        values.append(roc_auc_score(labels[rows, zone], scores[rows, zone]))
    assert zone_auc(scores, labels, once(labels), LABELS)[0] == pytest.approx(np.mean(values), abs=1e-12)


def test_pair_accuracy_counts_pairs_of_an_image_with_ties_half() -> None:
    labels = np.array([[1, 0, 0, NAN, 1, 0, 0, 0], [1, 1, 0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 1, 0, 0]], dtype=float)
    scores = np.array([[2, 1, 2, 9, 0, 0, 0, 0], [3, 0, 1, -1, 0, 0, 0, 0], [1, 2, 3, 4, 0, 0, 0, 0]], dtype=float)
    # Image 0: 2 > 1 and 2 = 2. Image 1: 3 > 1, 3 > -1, 0 < 1, 0 > -1. Image 2 and the cavity have no pair.
    assert pair_accuracy(scores, labels, once(labels), LABELS)[0] == pytest.approx((1 + 0.5 + 3) / 6)


def test_a_called_finding_is_on_the_side_that_exceeds_its_threshold_more() -> None:
    labels = np.zeros((6, 8))
    labels[[0, 1, 2, 3], 5] = 1
    labels[4, 6] = 1
    labels[5, [5, 6]] = 1
    thresholds = np.zeros(8)
    thresholds[[5, 6]] = [1.0, 2.0]
    scores = np.full((6, 8), -9.0)
    # Right; left although the right score is higher; both alike; not called; right where it is left; on both sides.
    scores[:, 5] = [1.5, 3.0, 4.0, 0.9, 1.0, 5.0]
    scores[:, 6] = [1.9, 4.5, 5.0, 1.9, 1.9, 1.0]
    sides = called_sides(scores, labels, LABELS, thresholds)
    np.testing.assert_array_equal(sides.cases, [1, 1, 1, 1, 1, 0])
    np.testing.assert_array_equal(sides.called, [1, 1, 1, 0, 1, 0])
    np.testing.assert_array_equal(sides.wrong, [0, 1, 0.5, 0, 1, 0])
    assert wrong_side_rate(scores, labels, once(labels), LABELS, thresholds)[0] == 2.5 / 4


def test_a_pair_without_a_threshold_has_no_cases() -> None:
    scores, labels = random_case(1)
    thresholds = np.full(8, -9.0)
    everything = called_sides(scores, labels, LABELS, thresholds)
    thresholds[5] = NAN
    rest = called_sides(scores, labels, LABELS, thresholds)
    cavity = labels[:, 5] + labels[:, 6] == 1
    assert cavity.any()
    np.testing.assert_array_equal(rest.cases, everything.cases - cavity)
    # Never called: both are cases still.
    never = called_sides(scores, labels, LABELS, np.full(8, np.inf))
    np.testing.assert_array_equal(never.cases, everything.cases)
    assert never.called.sum() == 0
    assert np.isnan(wrong_side_rate(scores, labels, once(labels), LABELS, np.full(8, np.inf))[0])


@pytest.mark.parametrize("seed", range(3))
def test_mirrored_images_with_swapped_labels_have_the_same_rate(seed: int) -> None:
    scores, labels = random_case(seed)
    thresholds = np.random.default_rng(seed).normal(size=8)
    mirror = list(LABELS.mirror)
    rate = wrong_side_rate(scores, labels, once(labels), LABELS, thresholds)
    mirrored = wrong_side_rate(scores[:, mirror], labels[:, mirror], once(labels), LABELS, thresholds[mirror])
    assert 0 < rate[0] < 1
    assert mirrored[0] == pytest.approx(rate[0], abs=1e-12)


def called_wrong(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray, label_set: LabelSet) -> np.ndarray:
    return wrong_side_rate(scores, labels, weights, label_set, np.zeros(len(label_set)))


@pytest.mark.parametrize("metric", [side_auc, zone_auc, pair_accuracy, called_wrong])
def test_weights_are_the_same_as_repeating_images(metric: Callable[..., np.ndarray]) -> None:
    scores, labels = random_case(7)
    counts = np.random.default_rng(3).integers(0, 3, len(labels))
    repeated = metric(
        np.repeat(scores, counts, axis=0), np.repeat(labels, counts, axis=0), np.ones((1, counts.sum())), LABELS
    )
    weighted = metric(scores, labels, counts[None].astype(float), LABELS)
    np.testing.assert_allclose(weighted, repeated, rtol=0, atol=1e-12)


@pytest.mark.parametrize("metric", [side_auc, zone_auc, pair_accuracy, called_wrong])
def test_undefined_is_nan(metric: Callable[..., np.ndarray]) -> None:
    no_places = LabelSet((Label("large heart", "large heart", "none"),))
    assert np.isnan(metric(np.zeros((3, 1)), np.ones((3, 1)), np.ones((2, 3)), no_places)).all()
    assert np.isnan(metric(np.zeros((3, 8)), np.full((3, 8), NAN), np.ones((2, 3)), LABELS)).all()
