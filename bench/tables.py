"""The report's page in Markdown."""

from collections.abc import Sequence

from bench import memory
from bench.goals import DECODER, GOALS, verdict
from bench.markdown import number, table
from bench.peers import BADDBMM, LOOP, OURS
from bench.results import Case, Results, best_peer
from bench.steps import BACKWARD, FORWARD, FORWARD_BACKWARD, STEP, UPDATE

# (suite, spans, the limit in words)
SUITES = (
    ("forward", (FORWARD,), "one read of the weights"),
    ("backward", (BACKWARD, FORWARD_BACKWARD), "one read and one write of the weights, for the whole step two reads"),
    (
        "backward without a gradient for the maps",
        (BACKWARD, FORWARD_BACKWARD),
        "one write, for the whole step one read",
    ),
    (DECODER, (FORWARD_BACKWARD,), "one read and one write of the weights"),
    ("auto-encoder step", (FORWARD_BACKWARD,), "three reads and two writes of the weights"),
    ("training step", (STEP,), "nine reads and six writes of one weight, with bf16 state seven and four"),
    ("update", (UPDATE,), "three reads and three writes of the weight, with bf16 state two and two"),
)


def _machine(results: Results) -> str:
    machine = results.machine
    facts = (
        ("processor", f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads used"),
        ("instructions", f"{machine['instructions']} (spf_kernels), {machine['torch_instructions']} (torch)"),
        ("torch, Python", f"{machine['torch']}, {machine['python']}"),
        ("spf_kernels", f"{machine['spf_kernels']}, {machine['compiler']}"),
        ("date", results.date),
        ("load average at the end", str(machine["load_average"])),
    )
    return table(("", ""), facts)


def _goals(results: Results) -> str:
    rows = []
    for goal in GOALS:
        value = goal.measured(results)
        numbers = ["–" if x is None else f"{x:.2f}{goal.unit}" for x in (goal.goal, goal.stretch, value)]
        rows.append([goal.what, *numbers, verdict(goal, value)])
    return table(("B=12, 128 maps of 64x64, D=128", "goal", "stretch", "measured", ""), rows)


def _limits(case: Case) -> str:
    return "; ".join(
        f"{kind} {number(numbers['median_ms'])} ms = {number(numbers['gb_per_s'])} GB/s ({numbers['method']})"
        for kind, numbers in case["limits"].items()
    )


def _providers(case: Case, span: str) -> str:
    """Every provider of one case, the fastest first."""
    found = {name: spans[span] for name, spans in case["providers"].items() if span in spans}
    rows = []
    for name in sorted(found, key=lambda name: found[name]["median_ms"]):
        numbers = found[name]
        measured = [number(numbers[field]) for field in ("median_ms", "min_ms", "n", "gb_per_s", "share_of_limit")]
        error = max(case["errors"][name].values())
        rows.append([f"**{name}**" if name == OURS else name, *measured, _faster(case, name, span), f"{error:.1e}"])
    return table(
        ("provider", "median ms", "min ms", "rounds", "GB/s", "share of the limit", "ours is faster by", "error"), rows
    )


def _faster(case: Case, provider: str, span: str) -> str:
    numbers = case["providers"].get(provider, {}).get(span)
    return "–" if numbers is None or provider == OURS else f"{numbers['ours_is_faster_by']:.2f}x"


def _main_case(results: Results) -> str:
    parts = []
    for suite, spans, limit in SUITES:
        for case in results.suite(suite):
            if not case["main"] and not results.machine["quick"]:
                continue
            for span in spans:
                title = suite if span in suite else f"{suite}: {span}"
                parts.append(f"### {title}, {case['case']}\n\n{_limits(case)}. The limit: {limit}.\n")
                parts.append(_providers(case, span))
    return "\n".join(parts)


def _share(part: float, whole: float) -> str:
    # a quick run's tiny sizes may take no memory at all
    return f"{part / whole:.2f}" if whole else "–"


def _memory(results: Results) -> str:
    parts = []
    for what, measured in results.memory.items():
        peaks = measured["peak_mb"]
        rows = [
            [
                name,
                number(peak["peak"]),
                number(peak["before"]),
                number(memory.growth(peak)),
                _share(memory.growth(peak), memory.growth(peaks[LOOP])),
                _share(peak["peak"], peaks[LOOP]["peak"]),
            ]
            for name, peak in sorted(peaks.items(), key=lambda item: memory.growth(item[1]))
        ]
        header = (
            "provider",
            "peak MB",
            "before the parameters exist",
            "difference",
            "of the loop's",
            "peak of the loop's",
        )
        parts.append(f"### {what}, {measured['case']}\n\n{table(header, rows)}")
    return "\n".join(parts) or "Not measured.\n"


def _all_cases(cases: list[Case], span: str) -> str:
    """One line a case; where the best peer is faster it says so."""
    rows, slower = [], 0
    for case in cases:
        peer = best_peer(case, span)
        ours, best = case["providers"][OURS][span], case["providers"][peer][span]
        loses = best["ours_is_faster_by"] < 1
        slower += loses
        rows.append(
            [
                case["case"],
                number(ours["median_ms"]),
                peer,
                number(best["median_ms"]),
                _faster(case, peer, span) + (" **slower**" if loses else ""),
                _faster(case, BADDBMM, span),
                _faster(case, LOOP, span),
                number(ours["gb_per_s"]),
                number(ours["share_of_limit"]),
            ]
        )
    header = ("case", "ours ms", "best peer", "its ms", "ours is faster by", "than baddbmm", "than the loop", "GB/s")
    count = f"Slower than the best peer in {slower} of {len(cases)} cases.\n\n"
    return count + table((*header, "share of the limit"), rows)


def page(results: Results, pictures: Sequence[str]) -> str:
    """The whole page.

    Args:
        results: The run.
        pictures: The plots' file names.
    """
    quick = "**A quick run of tiny sizes: its numbers mean nothing.**\n\n" if results.machine["quick"] else ""
    parts = [
        f"# {results.machine['cpu']}, {results.machine['cores']} cores\n",
        f"{quick}Written by `python -m bench`; [what the numbers mean](../../README.md). Compare ratios only.\n",
        _machine(results),
        "## Goals\n",
        _goals(results),
        "## The main case\n",
        _main_case(results),
        "## Peak memory\n",
        _memory(results),
        "## All cases\n",
        *(f"![{name.removesuffix('.png')}]({name})\n" for name in pictures),
    ]
    for suite, spans, _ in SUITES:
        for span in spans:
            if results.suite(suite):
                parts.append(f"### {suite if span in suite else f'{suite}: {span}'}\n")
                parts.append(_all_cases(results.suite(suite), span))
    return "\n".join(parts)
