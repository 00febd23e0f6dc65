"""Curves become coordinates of the drawing."""

import numpy as np
from spf_net.calibration import ReliabilityCurve
from spf_net.curves import Curves
from spf_net.html_report.charts import SIDE, precision_recall_chart, reliability_chart, roc_chart


def test_the_origin_is_at_the_lower_left() -> None:
    drawn = Curves(np.array([[0, 0], [0.25, 0.5], [1, 1]]), np.array([[0, 1], [1, 0.1]]))
    assert SIDE == 200
    assert roc_chart("title", ["spf"], [drawn]).lines[0].path == "0.0,200.0 50.0,100.0 200.0,0.0"
    assert precision_recall_chart("title", ["spf"], [drawn]).lines[0].path == "0.0,0.0 200.0,180.0"


def test_bins_are_marked() -> None:
    curve = ReliabilityCurve(np.array([0.1, 0.6]), np.array([0.2, 0.5]), np.array([3, 3]))
    (line,) = reliability_chart("title", ["spf"], [curve]).lines
    assert line.dots == [("20.0", "160.0"), ("120.0", "100.0")]


def test_networks_of_one_colour_have_different_dashes_and_undefined_curves_no_path() -> None:
    nothing = Curves(np.zeros((0, 2)), np.zeros((0, 2)))
    lines = roc_chart("title", [str(number) for number in range(13)], [nothing] * 13).lines
    assert len({(line.colour, line.dash) for line in lines}) == 13
    assert {line.path for line in lines} == {""}
