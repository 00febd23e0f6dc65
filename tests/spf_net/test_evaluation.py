"""Evaluation with confidence intervals by patient."""

import numpy as np
import pytest
from spf_data.labels import Label, LabelSet
from spf_net.bootstrap import patient_resamples, percentile_interval
from spf_net.evaluation import evaluate, evaluate_by_source

LABELS = LabelSet((Label("right cavity", "cavity", "right"), Label("left cavity", "cavity", "left")))


def case(patients: int = 60, images_each: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = (random.random((patients * images_each, 2)) < 0.4).astype(np.float32)
    scores = (labels + random.normal(size=labels.shape)).astype(np.float32)
    return scores, labels, np.repeat([f"patient {number}" for number in range(patients)], images_each)


def test_resamples_keep_the_images_of_a_patient_together() -> None:
    patients = np.array(["b", "a", "b", "c"])
    counts = patient_resamples(patients, 50, seed=0)
    assert counts.shape == (50, 4)
    np.testing.assert_array_equal(counts[:, 0], counts[:, 2])
    np.testing.assert_array_equal(counts[:, [0, 1, 3]].sum(axis=1), 3)
    assert len(np.unique(counts, axis=0)) > 5


def test_resamples_follow_from_the_seed() -> None:
    patients = np.array(list("abcdef"))
    np.testing.assert_array_equal(patient_resamples(patients, 5, 1), patient_resamples(patients, 5, 1))
    assert (patient_resamples(patients, 5, 1) != patient_resamples(patients, 5, 2)).any()


def test_the_interval_leaves_out_undefined_resamples() -> None:
    values = np.append(np.arange(101.0), np.nan)
    assert percentile_interval(values) == pytest.approx((2.5, 97.5))
    assert np.isnan(percentile_interval(np.array([np.nan]))).all()


def test_intervals_hold_the_value_and_are_wider_when_images_depend_on_each_other() -> None:
    scores, labels, patients = case()
    # Three copies of each image tell no more than one.
    scores, labels = (np.repeat(array[::3], 3, axis=0) for array in (scores, labels))
    by_patient = evaluate(scores, labels, LABELS, patients).metrics
    by_image = evaluate(scores, labels, LABELS, np.arange(len(patients)).astype(str)).metrics
    for name, estimate in by_patient.items():
        if not np.isnan(estimate.value):
            assert estimate.low <= estimate.value <= estimate.high
            assert estimate.high - estimate.low > 1.3 * (by_image[name].high - by_image[name].low)
    assert not np.isnan(by_patient["side_auc"].value)
    assert np.isnan(by_patient["zone_auc"]).all()


def test_each_source_is_reported_beside_all() -> None:
    scores, labels, patients = case()
    sources = np.where(np.arange(len(labels)) < 90, "first", "second")
    results = evaluate_by_source(scores, labels, LABELS, patients, sources)
    assert list(results) == ["all", "first", "second"]
    assert [item.images for item in results.values()] == [180, 90, 90]
    assert [item.patients for item in results.values()] == [60, 30, 30]
    alone = evaluate(scores[:90], labels[:90], LABELS, patients[:90]).metrics
    for name, estimate in results["first"].metrics.items():
        np.testing.assert_array_equal(estimate, alone[name])


def test_a_single_source_is_not_reported_twice() -> None:
    scores, labels, patients = case()
    assert list(evaluate_by_source(scores, labels, LABELS, patients, np.full(len(labels), "one"))) == ["all"]


def test_the_wrong_side_rate_needs_operating_points() -> None:
    scores, labels, patients = case()
    without = evaluate(scores, labels, LABELS, patients)
    assert "wrong_side_rate" not in without.metrics
    assert without.side_calls is None
    result = evaluate(scores, labels, LABELS, patients, thresholds=np.array([0.5, 0.5]))
    estimate, calls = result.metrics["wrong_side_rate"], result.side_calls
    assert calls is not None
    assert calls.cases == (labels.sum(axis=1) == 1).sum()
    assert 0 < calls.called < calls.cases
    assert (calls.thresholds, calls.sided_labels) == (2, 2)
    assert estimate.low < estimate.value < estimate.high < 0.5
    assert result.metrics["macro_auroc"] == without.metrics["macro_auroc"]
    unknown = evaluate(scores, labels, LABELS, patients, thresholds=np.array([0.5, np.nan]))
    assert unknown.side_calls is not None
    assert (unknown.side_calls.cases, unknown.side_calls.thresholds) == (0, 1)
    assert np.isnan(unknown.metrics["wrong_side_rate"].value)


def test_rows_must_agree() -> None:
    scores, labels, patients = case()
    with pytest.raises(ValueError, match=r"the patients \(179,\)"):
        evaluate(scores, labels, LABELS, patients[:-1])
    with pytest.raises(ValueError, match=r"thresholds must be \(2,\), got \(1,\)"):
        evaluate(scores, labels, LABELS, patients, thresholds=np.zeros(1))
