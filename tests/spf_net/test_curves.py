"""Curves that are the same ones as scikit-learn's, with fewer points."""

import numpy as np
import pytest
from sklearn.metrics import auc, average_precision_score, roc_auc_score
from spf_net.curves import curves


def case(images: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = (random.random((images, 3)) < 0.3).astype(float)
    scores = labels + random.normal(size=labels.shape)
    labels[random.random(labels.shape) < 0.2] = np.nan
    return scores, labels


def test_the_areas_are_those_of_the_known_pairs_pooled() -> None:
    scores, labels = case(40)
    known = ~np.isnan(labels)
    result = curves(scores, labels)
    assert auc(*result.roc.T) == pytest.approx(roc_auc_score(labels[known], scores[known]), abs=1e-12)
    recall, precision = result.precision_recall.T
    stepwise = (np.diff(recall) * precision[1:]).sum()
    assert stepwise == pytest.approx(average_precision_score(labels[known], scores[known]), abs=0.02)


def test_many_points_are_thinned_and_the_ends_kept() -> None:
    scores, labels = case(3000)
    known = ~np.isnan(labels)
    result = curves(scores, labels)
    assert len(result.roc) == len(result.precision_recall) == 200
    np.testing.assert_array_equal(result.roc[[0, -1]], [[0, 0], [1, 1]])
    np.testing.assert_array_equal(result.precision_recall[[0, -1], 0], [0, 1])
    assert (np.diff(result.roc, axis=0) >= 0).all()
    assert auc(*result.roc.T) == pytest.approx(roc_auc_score(labels[known], scores[known]), abs=1e-3)
    assert len(curves(scores, labels, max_points=7).roc) == 7


@pytest.mark.parametrize("value", [0.0, 1.0, np.nan])
def test_a_class_alone_has_no_curve(value: float) -> None:
    result = curves(np.zeros((4, 1)), np.full((4, 1), value))
    assert result.roc.shape == result.precision_recall.shape == (0, 2)


def test_a_single_point_is_no_curve() -> None:
    with pytest.raises(ValueError, match="max_points must be at least 2, got 1"):
        curves([[0.0]], [[1.0]], max_points=1)
