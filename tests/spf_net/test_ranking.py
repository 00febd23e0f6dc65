"""The weighted AUROC against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from spf_net.ranking import weighted_auroc, weighted_mean


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("levels", [3, 1000])
def test_equals_scikit_learn_with_ties_and_weights(seed: int, levels: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.integers(0, levels, 60).astype(float)
    targets = random.random(60) < 0.3
    weights = random.integers(0, 4, (7, 60)).astype(float)
    expected = [roc_auc_score(targets, scores, sample_weight=row) for row in weights]
    np.testing.assert_allclose(weighted_auroc(scores, targets, weights), expected, rtol=0, atol=1e-12)


def test_counts_are_the_same_as_repeating_rows() -> None:
    random = np.random.default_rng(0)
    scores, targets = random.normal(size=40), random.random(40) < 0.5
    counts = random.integers(0, 3, 40)
    repeated = roc_auc_score(np.repeat(targets, counts), np.repeat(scores, counts))
    assert weighted_auroc(scores, targets, counts[None].astype(float))[0] == pytest.approx(repeated, abs=1e-12)


def test_a_missing_class_is_undefined_and_not_zero() -> None:
    scores, targets = np.array([0.1, 0.2, 0.3]), np.array([True, True, False])
    weights = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 1.0]])
    values = weighted_auroc(scores, targets, weights)
    assert np.isnan(values[:2]).all()
    assert values[2] == 0
    assert np.isnan(weighted_auroc(scores[:0], targets[:0], weights[:, :0])).all()


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="scores must be finite, got 1 that are not"):
        weighted_auroc([0.0, np.nan], [True, False], np.ones((1, 2)))


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"got \(2,\), \(3,\), \(1, 2\)"):
        weighted_auroc([0.0, 1.0], [True, False, True], np.ones((1, 2)))


def test_weighted_mean_leaves_out_what_is_undefined() -> None:
    values = np.array([[1.0, np.nan, np.nan], [3.0, 5.0, np.nan]])
    weights = np.array([[1.0, 1.0, 1.0], [3.0, 2.0, 1.0]])
    np.testing.assert_array_equal(weighted_mean(values, weights), [2.5, 5.0, np.nan])
