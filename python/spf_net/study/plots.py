"""The pictures of the study, drawn from its results as plain values."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spf_net.study.lines import FLIPS, FRAMES
from spf_net.study.statistics import MACRO_AUROC, PAIR_ACCURACY, SIDE_AUC
from spf_net.study.zone_results import NIH

TITLES = {MACRO_AUROC: "macro AUROC", PAIR_ACCURACY: "pair accuracy", SIDE_AUC: "side AUC"}
# Okabe and Ito's colours, told apart by colour-blind readers as well.
_COLOURS = ("#D55E00", "#E69F00", "#0072B2", "#56B4E9", "#009E73", "#CC79A7")
_MARKERS = ("o", "D", "s", "^", "v", "P")
VARIANTS = [(frame, flip) for frame in FRAMES for flip in FLIPS]


def variant_name(frame: str, flip: float | None) -> str:
    """What is done to the maps, in words."""
    if flip is None:
        return "chosen inside"
    return f"{'lung frame' if frame == 'lungs' else 'image'}, {'flips' if flip else 'no flips'}"


def plot_phantom(results: Mapping[str, Any], path: Path) -> None:
    """Each measure along each axis, a line a head, with 95 % intervals over test patients.

    Args:
        results: What `spf_net.study.phantom.run` returns.
        path: Image file to write.
    """
    axes_of = results["axes"]
    figure = Figure(figsize=(4.2 * len(axes_of), 9.5), layout="constrained")
    grid = figure.subplots(len(TITLES), len(axes_of), squeeze=False, sharey="row")
    for row, (name, title) in enumerate(TITLES.items()):
        for column, (axis, points) in enumerate(axes_of.items()):
            axes = grid[row][column]
            for number, head in enumerate(results["heads"]):
                _phantom_line(axes, points, head, name, number)
            if axis == "training images":
                axes.set_xscale("log")
            axes.set_xticks([point["value"] for point in points], [f"{point['value']:,}" for point in points])
            axes.minorticks_off()
            axes.grid(alpha=0.25)
            axes.set(xlabel=axis, ylabel=title if column == 0 else "")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(path, dpi=120)


def _phantom_line(axes: Axes, points: Sequence[Mapping[str, Any]], head: str, measure: str, number: int) -> None:
    found = [point["heads"][head]["measures"][measure] for point in points]
    _errors(
        axes,
        [point["value"] for point in points],
        found,
        vertical=True,
        fmt=f"-{_MARKERS[number % len(_MARKERS)]}",
        color=_COLOURS[number % len(_COLOURS)],
        label=head,
    )


def plot_zones(results: Mapping[str, Any], path: Path) -> None:
    """NIH macro AUROC and pair accuracy of every line that has one level, with 95 % intervals over patients.

    Args:
        results: What `spf_net.study.zone_results.results` returns.
        path: Image file to write.
    """
    lines = [line for line in results["lines"] if line["flip"] is not None and line["levels"] != [16, 32]]
    heads = list(dict.fromkeys(line["head"] for line in lines))
    figure = Figure(figsize=(12, 2 + 0.5 * len(heads)), layout="constrained")
    for axes, measure in zip(figure.subplots(1, 2, sharey=True), (MACRO_AUROC, PAIR_ACCURACY), strict=True):
        for number, (frame, flip) in enumerate(VARIANTS):
            shown = [line for line in lines if (line["frame"], line["flip"]) == (frame, flip)]
            _errors(
                axes,
                [heads.index(line["head"]) + 0.18 * (number - 1.5) for line in shown],
                [line["measures"][NIH][measure] for line in shown],
                vertical=False,
                fmt=_MARKERS[number],
                color=_COLOURS[number],
                label=variant_name(frame, flip),
            )
        axes.set_yticks(range(len(heads)), heads)
        axes.grid(alpha=0.25)
        axes.set_xlabel(f"NIH {TITLES[measure]}")
    axes.invert_yaxis()
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)
    figure.savefig(path, dpi=120)


def plot_differences(results: Mapping[str, Any], path: Path) -> None:
    """Each SPF line minus the best rival on the same maps, paired, on NIH; right of 0 is better for SPF.

    Args:
        results: What `spf_net.study.zone_results.results` returns.
        path: Image file to write.
    """
    found = [
        row for row in results["comparisons"] if row["primary"] and row["question"] in ("best rival", "chosen inside")
    ]
    names = list(dict.fromkeys(comparison_name(row) for row in found))
    figure = Figure(figsize=(12, 1.5 + 0.3 * len(names)), layout="constrained")
    for axes, measure in zip(figure.subplots(1, 2, sharey=True), (MACRO_AUROC, PAIR_ACCURACY), strict=True):
        shown = [row for row in found if row["measure"] == measure]
        places = [float(names.index(comparison_name(row))) for row in shown]
        _errors(axes, places, shown, vertical=False, fmt="o", color=_COLOURS[2])
        axes.axvline(0, color="black", linewidth=1)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.grid(alpha=0.25)
        axes.set_xlabel(f"NIH {TITLES[measure]}, difference")
    axes.invert_yaxis()
    figure.savefig(path, dpi=120)


def comparison_name(row: Mapping[str, Any]) -> str:
    """Which line against which, and on what maps."""
    first, second = row["first"], row["second"]
    return f"{first['head']} – {second['head']} ({variant_name(first['frame'], first['flip'])})"


def _errors(
    axes: Axes, places: Sequence[float], found: Sequence[Mapping[str, Any]], *, vertical: bool, **style: Any
) -> None:
    """Values with their intervals; a value that is undefined is not drawn."""
    kept = [(place, each) for place, each in zip(places, found, strict=True) if each["value"] is not None]
    values = [each["value"] for _, each in kept]
    # An interval of resamples need not hold the value itself.
    bars = [
        [max(0.0, each["value"] - each["low"]) for _, each in kept],
        [max(0.0, each["high"] - each["value"]) for _, each in kept],
    ]
    at = [place for place, _ in kept]
    if vertical:
        axes.errorbar(at, values, yerr=bars, capsize=2, markersize=5, **style)
    else:
        axes.errorbar(values, at, xerr=bars, capsize=2, markersize=5, **style)
