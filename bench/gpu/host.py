"""What a call costs the host: the time to enqueue it, the GPU not waited for, at a size whose work is soon done."""

from statistics import median
from time import perf_counter

import torch

from bench.cases import Case, make_inputs
from bench.gpu.clock import NoClock, synchronize
from bench.gpu.machine import Machine
from bench.gpu.operations import OPERATIONS
from bench.gpu.operations.base import COMPILED, Builder
from bench.gpu.results import Row
from bench.gpu.steps import reason

_CALLS = 20
_REPEATS = 5


def _case(smoke: bool) -> Case:
    return Case(1, 4, 8, torch.float32, num_maps=2) if smoke else Case(1, 16, 32, torch.float32)


def _microseconds(build: Builder, machine: Machine) -> float:
    """The median over some repeats of the mean over many calls."""
    step, clock = build(), NoClock()
    calls, repeats = (1, 1) if machine.smoke else (_CALLS, _REPEATS)
    for _ in range(1 if machine.smoke else 10):
        step(0, clock)
    taken = []
    for _ in range(repeats):
        synchronize(machine.device)
        start = perf_counter()
        for _ in range(calls):
            step(0, clock)
        taken.append((perf_counter() - start) / calls)
    synchronize(machine.device)
    return median(taken) * 1e6


def microseconds(machine: Machine) -> list[Row]:
    """One row an operation and provider: "microseconds", or "left_out"."""
    case = _case(machine.smoke)
    inputs = make_inputs(case, 0, device=machine.device)
    rows: list[Row] = []
    for operation in OPERATIONS:
        for name, build in operation.providers(case, [inputs]).items():
            if name == COMPILED:
                continue
            row: Row = {"operation": operation.name, "case": case.label, "provider": name}
            try:
                row["microseconds"] = _microseconds(build, machine)
            # one provider's failure is a row, not the end of the run
            except Exception as error:
                row["left_out"] = reason(error)
            rows.append(row)
    return rows
