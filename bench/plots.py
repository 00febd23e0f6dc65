"""How much faster than the best peer, over the batch size: one picture a suite."""

import io
from itertools import product

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.goals import DECODER
from bench.results import Case, Results, best_peer
from bench.steps import BACKWARD, FORWARD, FORWARD_BACKWARD, STEP, UPDATE

# (file, suite, what was timed)
PICTURES = (
    ("forward.png", "forward", FORWARD),
    ("backward.png", "backward", BACKWARD),
    ("decoder.png", DECODER, FORWARD_BACKWARD),
    ("autoencoder.png", "auto-encoder step", FORWARD_BACKWARD),
    ("step.png", "training step", STEP),
    ("update.png", "update", UPDATE),
)
_TITLES = {"float32": "fp32", "bfloat16": "bf16"}
_COLOURS = ("#0072b2", "#d55e00", "#009e73")
_STYLES = ("-o", "--s")


def _ratio(case: Case, span: str) -> float:
    ratio: float = case["providers"][best_peer(case, span)][span]["ours_is_faster_by"]
    return ratio


def _panel(axes: Axes, cases: list[Case], span: str) -> None:
    """One line a size: colour for the map, dash for the code."""
    sides = sorted({case["side"] for case in cases}, reverse=True)
    code_sizes = sorted({case["code_size"] for case in cases}, reverse=True)
    batches = sorted({case["batch"] for case in cases})
    for (i, side), (j, code_size) in product(enumerate(sides), enumerate(code_sizes)):
        line = {c["batch"]: _ratio(c, span) for c in cases if (c["side"], c["code_size"]) == (side, code_size)}
        xs = [batches.index(batch) for batch in sorted(line)]
        label = f"{side}x{side} maps, D={code_size}"
        style, colour = _STYLES[j % len(_STYLES)], _COLOURS[i % len(_COLOURS)]
        axes.plot(xs, [line[batch] for batch in sorted(line)], style, color=colour, label=label, markersize=4)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_xticks(range(len(batches)), [str(batch) for batch in batches])
    axes.set_xlabel("batch size B")
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)


def _draw(cases: list[Case], suite: str, span: str) -> bytes:
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    dtypes = [dtype for dtype in _TITLES if any(case["dtype"] == dtype for case in cases)]
    panels = figure.subplots(1, len(dtypes), sharey=True, squeeze=False)[0]
    for axes, dtype in zip(panels, dtypes, strict=True):
        _panel(axes, [case for case in cases if case["dtype"] == dtype], span)
        axes.set_title(_TITLES[dtype])
    panels[0].set_ylabel("time of the best peer / ours")
    figure.suptitle(suite if span in suite else f"{suite} ({span})")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", frameon=False)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120, metadata={"Software": None})
    return content.getvalue()


def draw(results: Results) -> dict[str, bytes]:
    """The pictures by file name; only of suites that were measured."""
    with mpl.rc_context({"font.size": 9}):
        return {
            name: _draw(results.suite(suite), suite, span) for name, suite, span in PICTURES if results.suite(suite)
        }
