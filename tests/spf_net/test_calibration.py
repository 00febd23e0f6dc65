"""Brier score, calibration error, reliability curves."""

import numpy as np
import pytest
from scipy.special import logit
from sklearn.metrics import brier_score_loss
from spf_net.calibration import calibration, reliability_curve

NAN = float("nan")


def test_brier_is_scikit_learns_over_what_is_known() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(70, 3))
    labels = (random.random((70, 3)) < 0.4).astype(float)
    labels[random.random((70, 3)) < 0.3] = NAN
    labels[:, 2] = NAN
    result = calibration(logits, labels)
    for column in range(2):
        known = ~np.isnan(labels[:, column])
        expected = brier_score_loss(labels[known, column], 1 / (1 + np.exp(-logits[known, column])))
        assert result.brier[column] == pytest.approx(expected, abs=1e-12)
    assert np.isnan([result.brier[2], result.error[2]]).all()
    assert result.macro_brier == pytest.approx(result.brier[:2].mean())
    assert result.macro_error == pytest.approx(result.error[:2].mean())


def test_the_error_by_hand() -> None:
    # Two bins of three: mean .2 against 1/3 observed, mean .8 against 2/3.
    probabilities = np.array([0.9, 0.1, 0.2, 0.8, 0.3, 0.7])
    labels = np.array([1, 0, 1, 1, 0, 0])
    curve = reliability_curve(probabilities, labels, bins=2)
    np.testing.assert_allclose(curve.predicted, [0.2, 0.8])
    np.testing.assert_allclose(curve.observed, [1 / 3, 2 / 3])
    np.testing.assert_array_equal(curve.counts, [3, 3])
    assert curve.error == pytest.approx(0.4 / 3)
    assert calibration(logit(probabilities)[:, None], labels[:, None], bins=2).error[0] == pytest.approx(0.4 / 3)


@pytest.mark.parametrize("seed", range(3))
def test_bins_hold_equally_many_and_the_order_does_not_matter(seed: int) -> None:
    random = np.random.default_rng(seed)
    probabilities = random.random(200) ** 3
    labels = (random.random(200) < 0.3).astype(float)
    curve = reliability_curve(probabilities, labels)
    np.testing.assert_array_equal(curve.counts, 20)
    assert (np.diff(curve.predicted) > 0).all()
    # With many ties as well.
    tied, order = probabilities.round(1), random.permutation(200)
    assert reliability_curve(tied, labels).error == pytest.approx(
        reliability_curve(tied[order], labels[order]).error, abs=1e-12
    )


def test_probabilities_drawn_from_themselves_are_calibrated_and_halved_ones_are_not() -> None:
    random = np.random.default_rng(0)
    probabilities = random.random(20000)
    labels = (random.random(20000) < probabilities).astype(float)
    assert reliability_curve(probabilities, labels).error < 0.015
    assert reliability_curve(probabilities / 2, labels).error == pytest.approx(0.25, abs=0.015)


def test_a_constant_is_one_bin() -> None:
    curve = reliability_curve(np.full(8, 0.25), np.array([1, 0, 0, 0, 1, 1, NAN, NAN]))
    np.testing.assert_array_equal(curve.counts, [6])
    assert curve.error == 0.25


def test_nothing_known_is_nan() -> None:
    assert np.isnan(reliability_curve([0.5], [NAN]).error)
    result = calibration(np.zeros((3, 2)), np.full((3, 2), NAN))
    assert np.isnan([result.macro_brier, result.macro_error]).all()


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must both be \(N,\), got \(2,\) and \(1,\)"):
        reliability_curve([0.1, 0.2], [1.0])
    with pytest.raises(ValueError, match=r"must be in \[0, 1\], got -2.0 to 0.5"):
        reliability_curve([-2.0, 0.5], [1.0, 0.0])
    with pytest.raises(ValueError, match="bins must be at least 1, got 0"):
        reliability_curve([0.5], [1.0], bins=0)
