"""Providers in turn, round after round, each turn a few calls; medians, and ratios within a round."""

from collections.abc import Mapping
from itertools import count
from statistics import median
from time import perf_counter
from typing import Any

import torch

from bench.gpu.clock import Clock, Stamps
from bench.gpu.machine import Machine
from bench.gpu.steps import Step
from bench.peers import OURS

# the first call of a turn is not counted: it does not pay for what a call before it left in the cache to be written
CALLS = 4
LEAST_ROUNDS = 5
MOST_ROUNDS = 40
_LEAD_BYTES = 1 << 30

# for each span the seconds of each round
Recorded = dict[str, list[float]]


class Lead:
    """Reads 1 GiB on the GPU before a turn: no weights stay in the L2 cache, and the host gets ahead of the GPU.

    Without the lead, a call of one short kernel would be timed with the host's launch in it.
    """

    def __init__(self, machine: Machine) -> None:
        elements = 1 if machine.smoke else _LEAD_BYTES // 4
        self._buffer = torch.rand(elements, device=machine.device)

    def __call__(self) -> None:
        self._buffer.sum()


def _turn(step: Step, lead: Lead, clock: Clock, first: int, sets: int) -> list[Stamps]:
    lead()
    return [step((first + i) % sets, clock) for i in range(CALLS)][1:]


def _seconds(stamps: list[Stamps], clock: Clock) -> dict[str, float]:
    """By span, the median over the calls of a turn."""
    return {span: median(clock.seconds(*stamp[span]) for stamp in stamps) for span in stamps[0]}


def interleave(
    steps: Mapping[str, Step], sets: int, lead: Lead, clock: Clock, seconds: float, rounds: int | None = None
) -> dict[str, Recorded]:
    """Gives every step its turn, round after round.

    Args:
        steps: By provider.
        sets: How many weight sets they have.
        lead: Comes before each turn.
        clock: For the steps.
        seconds: After two rounds of warm-up, how long the rounds may take.
        rounds: Or exactly so many, none of them for warm-up.

    Returns:
        By provider and span the seconds of each round.
    """
    recorded: dict[str, Recorded] = {name: {} for name in steps}
    turns = count()

    def one_round() -> float:
        start = perf_counter()
        stamps = {name: _turn(step, lead, clock, next(turns) * CALLS, sets) for name, step in steps.items()}
        clock.synchronize()
        for name, taken in stamps.items():
            for span, value in _seconds(taken, clock).items():
                recorded[name].setdefault(span, []).append(value)
        return perf_counter() - start

    if rounds is None:
        # the first rounds tell how long a round takes, too
        round_seconds = min(one_round() for _ in range(2))
        for spans in recorded.values():
            spans.clear()
        rounds = min(max(int(seconds / round_seconds), LEAST_ROUNDS), MOST_ROUNDS)
    for _ in range(rounds):
        one_round()
    return recorded


def summarise(recorded: dict[str, Recorded], num_bytes: dict[str, int], copy_rate: float) -> list[dict[str, Any]]:
    """One row a provider and span.

    Args:
        recorded: Of `interleave`.
        num_bytes: By span to report, what it has to move at least: counted by hand, the same for every provider.
        copy_rate: Bytes a second of the card's own copy.

    Returns:
        Rows with "provider", "span", "median_ms", "min_ms", "rounds", "bytes", "gb_per_s", "share_of_copy", and for
        peers "ours_is_faster_by": the median over the rounds of (its time / our time), where both were timed.
    """
    rows = []
    for provider, spans in recorded.items():
        for span in (name for name in num_bytes if name in spans):
            seconds = spans[span]
            middle = median(seconds)
            rate = num_bytes[span] / middle
            row = {
                "provider": provider,
                "span": span,
                "median_ms": middle * 1e3,
                "min_ms": min(seconds) * 1e3,
                "rounds": len(seconds),
                "bytes": num_bytes[span],
                "gb_per_s": rate / 1e9,
                "share_of_copy": rate / copy_rate,
            }
            ours = recorded.get(OURS, {}).get(span)
            if ours and provider != OURS:
                row["ours_is_faster_by"] = median(a / b for a, b in zip(seconds, ours, strict=True))
            rows.append(row)
    return rows
