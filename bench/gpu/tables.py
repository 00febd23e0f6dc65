"""The report's page in Markdown, and the summary that is printed last."""

from collections.abc import Sequence

from bench.gpu.goals import best_peer, goals
from bench.gpu.operations.base import KERNEL
from bench.gpu.results import Results, Row
from bench.markdown import number, table
from bench.peers import LOOP, OURS
from bench.steps import BACKWARD, FORWARD, FORWARD_BACKWARD, STEP

NOTHING_MEASURED = (
    "A rehearsal: Triton's interpreter on a CPU, tiny sizes. It measured NOTHING; no number here means anything."
)
# a remote caller may see no more than the last 12,000 characters
_LARGEST_SUMMARY = 10_000
_SPANS = (FORWARD, KERNEL, BACKWARD, FORWARD_BACKWARD, STEP)


def _times(row: Row | None) -> str:
    return "–" if row is None or "ours_is_faster_by" not in row else f"{row['ours_is_faster_by']:.2f}x"


def _keys(results: Results) -> list[tuple[str, str, str]]:
    """(operation, case, span) of all that was measured, in the order of measurement."""
    found = {(row["operation"], row["case"], row["span"]): None for row in results.rows if "span" in row}
    return list(found)


def _title(operation: str, span: str) -> str:
    return operation if span in (operation, KERNEL) else f"{operation}: {span}"


def stages_table(results: Results) -> str:
    rows = [[row["stage"], row["verdict"], f"{row['seconds']} s"] for row in results.stages]
    return table(("stage", "verdict", "took"), rows)


def goals_table(results: Results) -> str:
    rows = [
        [goal.what, f"{goal.least:.2f}", "–" if goal.measured is None else f"{goal.measured:.2f}", goal.verdict]
        for goal in goals(results)
    ]
    return table(("B=12, 128 maps of 64x64, D=128", "goal", "measured", ""), rows)


def _machine(results: Results) -> str:
    return table(("", ""), [[key, str(value)] for key, value in (results.machine | {"date": results.date}).items()])


def limits_table(results: Results) -> str:
    rows = [
        [
            name,
            f"{number(limit['gb_per_s'])} GB/s" if "gb_per_s" in limit else f"{number(limit['tflop_per_s'])} TFLOP/s",
            limit["method"],
        ]
        for name, limit in results.limits.items()
    ]
    return table(("the card's own", "rate", "measured by"), rows)


def case_line(results: Results, operation: str, case: str, span: str) -> list[str]:
    """One case in a line: ours, the best peer, the loop."""
    rows = results.of(operation, case, span)
    ours, peer = rows.get(OURS), best_peer(rows)
    ratio = _times(peer)
    if peer is not None and peer.get("ours_is_faster_by", 1.0) < 1:
        ratio += " **slower**"
    return [
        case,
        "–" if ours is None else number(ours["median_ms"]),
        "–" if ours is None else number(ours["gb_per_s"]),
        "–" if ours is None else f"{ours['share_of_copy']:.2f}",
        "–" if peer is None else peer["provider"],
        "–" if peer is None else number(peer["median_ms"]),
        ratio,
        _times(rows.get(LOOP)),
    ]


CASE_HEADER = ("case", "ours ms", "GB/s", "share of copy", "best peer", "its ms", "ours is faster by", "than the loop")


def _providers(results: Results, operation: str, case: str, span: str) -> str:
    """Every provider of one case, the fastest first, those left out last."""
    found = results.of(operation, case, span)
    rows = [
        [
            f"**{name}**" if name == OURS else name,
            number(row["median_ms"]),
            number(row["min_ms"]),
            str(row["rounds"]),
            number(row["gb_per_s"]),
            f"{row['share_of_copy']:.2f}",
            _times(row),
            f"{row['error']:.1e}",
        ]
        for name, row in sorted(found.items(), key=lambda item: float(item[1]["median_ms"]))
    ]
    left_out = [
        row
        for row in results.rows
        if (row["operation"], row["case"]) == (operation, case) and "left_out" in row and row["provider"] not in found
    ]
    rows += [[row["provider"], "left out", row["left_out"], "", "", "", "", ""] for row in left_out]
    header = ("provider", "median ms", "min ms", "rounds", "GB/s", "share of copy", "ours is faster by", "error")
    return table(header, rows)


def _details(results: Results) -> str:
    """All providers, at the main sizes."""
    main = results.planned[0]["case"].rpartition("-")[0] if results.planned else ""
    parts = []
    for operation, case, span in _keys(results):
        if case.rpartition("-")[0] == main:
            parts += [f"### {_title(operation, span)}, {case}\n", _providers(results, operation, case, span)]
    return "\n".join(parts)


def _all_cases(results: Results) -> str:
    keys = _keys(results)
    parts = []
    for operation, span in dict.fromkeys((operation, span) for operation, _, span in keys):
        cases = [case for other, case, timed in keys if (other, timed) == (operation, span)]
        rows = [case_line(results, operation, case, span) for case in cases]
        slower = sum("slower" in row[6] for row in rows)
        parts += [
            f"### {_title(operation, span)}\n",
            f"Slower than the best peer in {slower} of {len(cases)} cases.\n",
            table(CASE_HEADER, rows),
        ]
    return "\n".join(parts)


def left_out_table(results: Results) -> str:
    """Who did not take part, why and where; then what there was no time for."""
    where: dict[tuple[str, str, str], list[str]] = {}
    for row in results.rows:
        if "left_out" in row:
            where.setdefault((row["operation"], row["provider"], row["left_out"]), []).append(row["case"])
    for row in results.not_measured():
        where.setdefault((row["operation"], "all", "time: not measured before the deadline"), []).append(row["case"])
    rows = [[*key, str(len(cases)), ", ".join(cases)] for key, cases in where.items()]
    return table(("operation", "provider", "why", "cases", ""), rows) if rows else "Nobody.\n"


def _by_operation(rows: list[Row], field: str, unit: str) -> str:
    """One line an operation, case and provider."""
    lines = [
        [row["operation"], row["case"], row["provider"], number(row[field]) if field in row else row["left_out"]]
        for row in rows
    ]
    return table(("operation", "case", "provider", unit), lines) if lines else "Not measured.\n"


def page(results: Results, pictures: Sequence[str]) -> str:
    """The whole page.

    Args:
        results: The run.
        pictures: The plots' file names.
    """
    name = results.machine.get("name", "no GPU")
    compile_rows = [[key, f"{value:.0f} s"] for key, value in results.compile_seconds.items()]
    parts = [
        f"# {name}\n",
        f"**{NOTHING_MEASURED}**\n" if results.machine.get("smoke", True) else "",
        "Written by `bash bench/gpu.sh`; [what the numbers mean](../../README.md#on-a-gpu).\n",
        _machine(results),
        stages_table(results),
        "## Goals\n",
        goals_table(results),
        "## The card's own rates\n",
        limits_table(results),
        "## The main size, every provider\n",
        _details(results),
        "## Host time of a call, the GPU not waited for\n",
        _by_operation(results.host, "microseconds", "microseconds"),
        "## Peak memory, one weight set and its gradients included\n",
        _by_operation(results.memory, "peak_mb", "MB"),
        "## Time that torch.compile took\n",
        table(("operation, case", "seconds"), compile_rows) if compile_rows else "Nothing was compiled.\n",
        "## All cases\n",
        *(f"![{name.removesuffix('.png')}]({name})\n" for name in pictures),
        _all_cases(results),
        "## Left out\n",
        left_out_table(results),
    ]
    return "\n".join(part for part in parts if part)


def _case_block(results: Results, room: int) -> str:
    """As many cases as fit, in the order of importance."""
    lines = []
    keys = sorted(_keys(results), key=lambda key: _SPANS.index(key[2]))
    order = {case: index for index, case in enumerate(dict.fromkeys(row["case"] for row in results.planned))}
    keys.sort(key=lambda key: order.get(key[1], len(order)))
    for operation, case, span in keys:
        line = "  ".join([f"{_title(operation, span):30}", *case_line(results, operation, case, span)])
        if room < len(line) + 60:
            break
        room -= len(line) + 1
        lines.append(line)
    if len(lines) < len(keys):
        lines.append(f"... and {len(keys) - len(lines)} more in README.md")
    return "\n".join(lines)


def summary(results: Results, folder: str) -> str:
    """What is printed last, short enough for a caller who sees only the end."""
    head = [
        stages_table(results),
        goals_table(results),
        limits_table(results),
        f"operation; {'; '.join(CASE_HEADER)}",
    ]
    missing = len(results.not_measured())
    out = sum("left_out" in row for row in results.rows)
    tail = [
        f"planned but not measured for want of time: {missing} of {len(results.planned)}",
        f"left out: {out} (README.md says who, why and where)",
        f"report: {folder}",
    ]
    if results.machine.get("smoke", True):
        tail.append(NOTHING_MEASURED)
    room = _LARGEST_SUMMARY - sum(len(part) + 1 for part in [*head, *tail])
    return "\n".join([*head, _case_block(results, room), *tail])
