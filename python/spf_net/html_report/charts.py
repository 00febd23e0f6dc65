"""Line charts on the unit square, as what the template draws."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spf_net.calibration import ReliabilityCurve
from spf_net.curves import Curves
from spf_net.ranking import FloatArray

# Side of the square in the drawing's units; the template's axes have the same.
SIDE = 200
COLOURS = 6


@dataclass(frozen=True)
class Line:
    """One network in a chart.

    Attributes:
        name: Of the network.
        colour: Which of the style's colours, from 0.
        dash: Which of the style's dashes, from 0 (none): tells networks of one colour apart.
        path: "x,y x,y ...", from the upper left corner; empty where nothing is defined.
        dots: (x, y) of the points to mark.
    """

    name: str
    colour: int
    dash: int
    path: str
    dots: list[tuple[str, str]]


@dataclass(frozen=True)
class Chart:
    """A square chart, both axes from 0 to 1.

    Attributes:
        title: What it shows.
        x: Name of the horizontal axis.
        y: Name of the vertical axis.
        diagonal: Whether to draw the line where both are equal.
        lines: One a network.
    """

    title: str
    x: str
    y: str
    diagonal: bool
    lines: list[Line]


def roc_chart(title: str, names: Sequence[str], curves: Sequence[Curves]) -> Chart:
    """ROC curves, one a network."""
    points = [curve.roc for curve in curves]
    return Chart(title, "share of false calls", "share of findings called", diagonal=True, lines=_lines(names, points))


def precision_recall_chart(title: str, names: Sequence[str], curves: Sequence[Curves]) -> Chart:
    """Precision-recall curves, one a network."""
    points = [curve.precision_recall for curve in curves]
    return Chart(title, "recall", "precision", diagonal=False, lines=_lines(names, points))


def reliability_chart(title: str, names: Sequence[str], curves: Sequence[ReliabilityCurve]) -> Chart:
    """Predicted against observed shares, one line a network, its bins marked."""
    points = [np.stack([curve.predicted, curve.observed], axis=1) for curve in curves]
    return Chart(title, "probability", "share present", diagonal=True, lines=_lines(names, points, dots=True))


def _lines(names: Sequence[str], points: Sequence[FloatArray], *, dots: bool = False) -> list[Line]:
    lines = []
    for number, (name, each) in enumerate(zip(names, points, strict=True)):
        pairs = [(f"{x * SIDE:.1f}", f"{(1 - y) * SIDE:.1f}") for x, y in each.tolist()]
        path = " ".join(f"{x},{y}" for x, y in pairs)
        lines.append(Line(name, number % COLOURS, number // COLOURS, path, pairs if dots else []))
    return lines
