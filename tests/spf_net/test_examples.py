"""Example images and their evidence."""

import numpy as np
import pytest
from spf_net.examples import choose_examples, draw_evidence, make_examples
from spf_net.heads import HeadConfig

from .report_case import dataset, evaluated


def test_examples_show_each_label_before_any_twice() -> None:
    labels = np.zeros((6, 3), dtype=np.float32)
    labels[[0, 1, 2, 4], 0] = 1
    labels[4, 1] = np.nan
    labels[[2, 5], 2] = 1
    assert choose_examples(labels, 2) == [(0, 0), (2, 2)]
    assert choose_examples(labels, 9) == [(0, 0), (2, 2), (1, 0), (5, 2), (4, 0)]
    assert choose_examples(labels, 0) == []


def test_colours_say_for_and_against_and_opacity_how_much() -> None:
    grey = np.full((4, 4), 0.5)
    values = np.zeros((4, 4))
    values[0, 0], values[1, 1], values[2, 2] = 2, 1, -2
    picture = draw_evidence(grey, values, np.zeros((4, 4), dtype=bool)).astype(int)
    np.testing.assert_array_equal(picture[3, 3], [128] * 3)
    assert picture[0, 0, 0] > picture[0, 0, 1] > picture[0, 0, 2]
    assert picture[2, 2, 2] > picture[2, 2, 1] > picture[2, 2, 0]
    assert 0 < picture[1, 1, 0] - 128 < picture[0, 0, 0] - 128
    assert (draw_evidence(grey, np.zeros((4, 4)), np.zeros((4, 4), dtype=bool)) == 128).all()


def test_the_outline_is_that_of_the_truth() -> None:
    truth = np.zeros((8, 8), dtype=bool)
    truth[1:6, 1:6] = True
    yellow = (draw_evidence(np.zeros((8, 8)), np.zeros((8, 8)), truth) > 0).any(axis=2)
    expected = truth.copy()
    expected[2:5, 2:5] = False
    np.testing.assert_array_equal(yellow, expected)


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"got \(4, 4\), \(4, 3\), \(4, 4\)"):
        draw_evidence(np.zeros((4, 4)), np.zeros((4, 3)), np.zeros((4, 4), dtype=bool))


def test_every_network_has_its_overlay_or_the_reason_why_not() -> None:
    data = dataset()
    sigmoid = HeadConfig(code_size=2, activation="sigmoid", reconstruction_weight=0)
    runs = [evaluated("linear", data), evaluated("sigmoid", data, sigmoid, seed=1)]
    examples = make_examples(runs, data, 3)
    for example in examples:
        linear, refused = example.overlays
        label = data.label_set.index(example.label)
        assert data.labels[example.row, label] == 1
        assert linear.probability == pytest.approx(1 / (1 + np.exp(-float(runs[0].scores[example.row, label]))))
        # 32 pixels are enlarged sixfold.
        assert example.image.shape == (192, 192)
        assert linear.picture is not None
        assert linear.picture.shape == (192, 192, 3)
        assert refused.picture is None
        assert "sigmoid" in refused.reason
    assert len({example.label for example in examples}) == 3
