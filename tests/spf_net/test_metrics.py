"""AUROC and average precision of labels."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score
from spf_net.metrics import (
    label_metrics,
    macro_auroc,
    macro_average_precision,
    weighted_macro_auroc,
    youden_thresholds,
)

NAN = float("nan")


@pytest.fixture
def scores() -> np.ndarray:
    scores: np.ndarray = np.random.default_rng(0).normal(size=(50, 4)).round(1)
    return scores


@pytest.fixture
def labels() -> np.ndarray:
    random = np.random.default_rng(1)
    labels = (random.random((50, 4)) < [0.5, 0.2, 0.3, 0.0]).astype(float)
    labels[random.random((50, 4)) < 0.3] = NAN
    return labels


def test_labels_are_scikit_learns_over_what_is_known(scores: np.ndarray, labels: np.ndarray) -> None:
    result = label_metrics(scores, labels)
    for column in range(3):
        known = ~np.isnan(labels[:, column])
        assert result.auroc[column] == roc_auc_score(labels[known, column], scores[known, column])
        assert result.average_precision[column] == average_precision_score(labels[known, column], scores[known, column])
        assert result.positives[column] == labels[known, column].sum()
        assert result.positives[column] + result.negatives[column] == known.sum()


def test_a_label_without_positives_is_undefined_and_counted(scores: np.ndarray, labels: np.ndarray) -> None:
    result = label_metrics(scores, labels)
    assert np.isnan(result.auroc[3])
    assert np.isnan(result.average_precision[3])
    assert result.defined == 3


def test_means_are_those_of_the_labels(scores: np.ndarray, labels: np.ndarray) -> None:
    result, once = label_metrics(scores, labels), np.ones((1, 50))
    assert macro_auroc(scores, labels, once)[0] == pytest.approx(result.auroc[:3].mean(), abs=1e-12)
    weighted = np.average(result.auroc[:3], weights=result.positives[:3])
    assert weighted_macro_auroc(scores, labels, once)[0] == pytest.approx(weighted, abs=1e-12)
    assert macro_average_precision(result) == pytest.approx(result.average_precision[:3].mean())


def test_scores_of_unknown_labels_do_not_matter(scores: np.ndarray, labels: np.ndarray) -> None:
    changed = np.where(np.isnan(labels), 99.0, scores)
    once = np.ones((1, 50))
    assert macro_auroc(changed, labels, once)[0] == macro_auroc(scores, labels, once)[0]


def test_nothing_defined_is_nan() -> None:
    scores, labels = np.zeros((3, 2)), np.full((3, 2), NAN)
    assert np.isnan(macro_auroc(scores, labels, np.ones((1, 3)))[0])
    assert np.isnan(macro_average_precision(label_metrics(scores, labels)))


def test_bad_scores_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must both be \(N, L\), got \(3, 2\) and \(3, 1\)"):
        label_metrics(np.zeros((3, 2)), np.zeros((3, 1)))
    with pytest.raises(ValueError, match="scores must be finite, got 6"):
        label_metrics(np.full((3, 2), np.inf), np.zeros((3, 2)))


def test_no_threshold_has_a_larger_youden_index(scores: np.ndarray, labels: np.ndarray) -> None:
    thresholds = youden_thresholds(scores, labels)
    for column in range(3):
        known = ~np.isnan(labels[:, column])
        score, label = scores[known, column], labels[known, column]
        index = {
            step: (score[label == 1] >= step).mean() - (score[label == 0] >= step).mean() for step in [*score, np.inf]
        }
        best = max(index.values())
        assert index[thresholds[column]] == pytest.approx(best, abs=1e-12)
        assert thresholds[column] == max(step for step, value in index.items() if value > best - 1e-12)
    assert np.isnan(thresholds[3])


def test_a_label_ranked_the_wrong_way_round_is_never_called() -> None:
    assert youden_thresholds([[2.0], [1.0]], [[0.0], [1.0]])[0] == np.inf
