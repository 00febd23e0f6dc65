"""Two pictures: every provider at the main size, and our share of the copy rate in every case."""

import io

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.gpu.results import Results
from bench.peers import OURS
from bench.steps import BACKWARD

_OURS_COLOUR, _PEER_COLOUR = "#d55e00", "#0072b2"


def _timed(results: Results) -> list[tuple[str, str]]:
    """(operation, span), the whole step where there are parts."""
    found = dict.fromkeys((row["operation"], row["span"]) for row in results.rows if "span" in row)
    return [(operation, span) for operation, span in found if span != BACKWARD]


def _png(figure: Figure, results: Results) -> bytes:
    if results.machine["smoke"]:
        figure.suptitle("A rehearsal on a CPU: nothing was measured")
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120, metadata={"Software": None})
    return content.getvalue()


def _bars(axes: Axes, results: Results, operation: str, case: str, span: str) -> None:
    rows = sorted(results.of(operation, case, span).values(), key=lambda row: -float(row["median_ms"]))
    colours = [_OURS_COLOUR if row["provider"].startswith(OURS) else _PEER_COLOUR for row in rows]
    bars = axes.barh([row["provider"] for row in rows], [row["median_ms"] for row in rows], color=colours)
    axes.bar_label(bars, fmt="%.3g", padding=2, fontsize=7)
    axes.set_title(f"{operation}, {case}", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def _main_size(results: Results) -> bytes:
    cases = list(dict.fromkeys(row["case"] for row in results.planned))[:2]
    timed = _timed(results)
    figure = Figure(figsize=(11, 2.1 * len(timed)), layout="constrained")
    panels = figure.subplots(len(timed), len(cases), squeeze=False)
    for line, (operation, span) in zip(panels, timed, strict=True):
        for axes, case in zip(line, cases, strict=True):
            _bars(axes, results, operation, case, span)
    figure.supxlabel("median milliseconds", fontsize=8)
    return _png(figure, results)


def _shares(results: Results) -> bytes:
    figure = Figure(figsize=(11, 4), layout="constrained")
    axes = figure.subplots()
    cases = list(dict.fromkeys(row["case"] for row in results.planned))
    for operation, span in _timed(results):
        found = {case: results.of(operation, case, span).get(OURS) for case in cases}
        points = [(cases.index(case), row["share_of_copy"]) for case, row in found.items() if row is not None]
        axes.plot([x for x, _ in points], [y for _, y in points], "o", label=operation, markersize=4)
    axes.axhline(0.85, color="black", linewidth=0.8)
    axes.set_xticks(range(len(cases)), cases, rotation=90, fontsize=6)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("bytes a second / the card's copy rate")
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return _png(figure, results)


def draw(results: Results) -> dict[str, bytes]:
    """The pictures by file name."""
    return {"main_size.png": _main_size(results), "shares.png": _shares(results)}
