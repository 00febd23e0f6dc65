"""Providers in turn, round after round: A B C A B C ..., and the numbers each case leaves in the JSON."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from statistics import median
from time import perf_counter
from typing import Any

from pytest_benchmark.fixture import BenchmarkFixture

from bench import memory
from bench.cases import Case
from bench.limits import READ, WRITE, Limit
from bench.peers import OURS
from bench.steps import Spans, Step

LEAST_ROUNDS = 5
MOST_ROUNDS = 40

Recorded = dict[str, list[Spans]]


@dataclass(frozen=True)
class Work:
    """What a span has to move at least.

    Attributes:
        num_bytes: Counted by hand, the same for every provider with the same task.
        reads: How often the weights have to be read.
        writes: How often as many bytes as the weights' have to be written.
    """

    num_bytes: int
    reads: float
    writes: float


def interleave(benchmark: BenchmarkFixture, steps: Mapping[str, Step], weight_sets: int, seconds: float) -> Recorded:
    """Runs all steps in turn for about `seconds`; the last one is also timed by pytest-benchmark.

    pytest-benchmark's `pedantic` calls its untimed `setup` before each timed call of its target. The target is the
    last step, the set-up one call of each other step: so one round is every provider once. Successive calls take
    successive weight sets.

    Returns:
        For each step its spans in seconds, one entry a round.
    """
    recorded: Recorded = {name: [] for name in steps}
    calls = count()
    *others, last = steps

    def run(name: str) -> None:
        recorded[name].append(steps[name](next(calls) % weight_sets))

    def run_others() -> None:
        for name in others:
            run(name)

    def whole_round() -> float:
        start = perf_counter()
        run_others()
        run(last)
        return perf_counter() - start

    # the first rounds fill caches, allocators and thread pools, and tell how long a round takes
    round_seconds = min(whole_round() for _ in range(2))
    for spans in recorded.values():
        spans.clear()
    rounds = min(max(math.floor(seconds / round_seconds), LEAST_ROUNDS), MOST_ROUNDS)
    benchmark.pedantic(run, args=(last,), setup=run_others, rounds=rounds)
    return recorded


def _timing(seconds: Sequence[float], num_bytes: int) -> dict[str, float]:
    middle = median(seconds)
    return {
        "median_ms": middle * 1e3,
        "min_ms": min(seconds) * 1e3,
        "n": len(seconds),
        "bytes": num_bytes,
        "gb_per_s": num_bytes / middle / 1e9,
    }


def _column(spans: list[Spans], name: str) -> list[float]:
    return [span[name] for span in spans]


def _median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median over the rounds of the ratio within a round."""
    return median(a / b for a, b in zip(above, below, strict=True))


def summarise(
    recorded: Recorded, work: dict[str, Work], own_work: Mapping[str, dict[str, Work]]
) -> dict[str, dict[str, dict[str, float]]]:
    """By provider and span: median, min, n, bytes, GB/s, share of the limit, and how much faster ours is.

    Args:
        recorded: The rounds, the limits among them.
        work: Of the spans to report.
        own_work: Of providers whose task is another.
    """
    read, write = _column(recorded[READ], READ), _column(recorded[WRITE], WRITE)
    providers: dict[str, dict[str, dict[str, float]]] = {}
    for provider, rounds in recorded.items():
        if provider in (READ, WRITE):
            continue
        providers[provider] = {}
        for span, needed in {**work, **own_work.get(provider, {})}.items():
            if span not in rounds[0]:
                continue
            seconds, ours = _column(rounds, span), _column(recorded[OURS], span)
            limit = [needed.reads * r + needed.writes * w for r, w in zip(read, write, strict=True)]
            providers[provider][span] = {
                **_timing(seconds, needed.num_bytes),
                "share_of_limit": _median_ratio(limit, seconds),
                "ours_is_faster_by": _median_ratio(seconds, ours),
            }
    return providers


def measure(
    benchmark: BenchmarkFixture,
    suite: str,
    case: Case,
    steps: Mapping[str, Step],
    limits: Sequence[Limit],
    weight_sets: int,
    work: dict[str, Work],
    errors: dict[str, dict[str, float]],
    own_work: Mapping[str, dict[str, Work]] | None = None,
    seconds: float | None = None,
) -> None:
    """Times the steps of one case with the limits beside them and leaves the numbers in `benchmark.extra_info`.

    Args:
        benchmark: pytest-benchmark's.
        suite: Its name.
        case: The sizes.
        steps: By provider, ours last.
        limits: The pure read and write.
        weight_sets: How many.
        work: Of the spans to report.
        errors: By provider.
        own_work: Of providers whose task is another.
        seconds: Of all rounds, by default the case's.
    """
    *peers, ours = steps
    everything: dict[str, Step] = {name: steps[name] for name in peers}
    # the write comes early: what it leaves in the caches to be written back does not meet our own call
    everything = {limit.kind: limit for limit in reversed(limits)} | everything | {ours: steps[ours]}
    benchmark.group = suite
    recorded = interleave(benchmark, everything, weight_sets, seconds or case.seconds)
    details: dict[str, Any] = {
        "suite": suite,
        "case": case.label,
        "batch": case.batch,
        "side": case.side,
        "code_size": case.code_size,
        "num_maps": case.num_maps,
        "dtype": str(case.dtype).removeprefix("torch."),
        "paper_size": case.is_paper_size,
        "main": case.is_main,
        "weight_sets": weight_sets,
        "limits": {
            limit.kind: {
                "method": limit.method,
                **_timing(_column(recorded[limit.kind], limit.kind), case.weight_bytes),
            }
            for limit in limits
        },
        "providers": summarise(recorded, work, own_work or {}),
        "errors": errors,
    }
    benchmark.extra_info.update(details)


def measure_memory(benchmark: BenchmarkFixture, case: Case, what: str) -> None:
    """Measures every provider's peak in `what`, a step of `memory`, and leaves them in `benchmark.extra_info`."""
    *others, ours = memory.providers(what)
    peaks = {name: memory.measure(case, what, name) for name in others}
    benchmark.group = "memory"
    # pytest-benchmark writes out only what it timed
    peaks[ours] = benchmark.pedantic(memory.measure, args=(case, what, ours))
    benchmark.extra_info.update(suite="memory", step=what, case=case.label, main=case.is_main, peak_mb=peaks)
    assert all(peak["peak"] >= peak["before"] for peak in peaks.values())
