"""The peak of the GPU's memory in the main case, by provider: weights, maps and gradients of one weight set."""

import gc

import torch

from bench.cases import Case, Inputs, make_inputs
from bench.gpu.clock import NoClock, synchronize
from bench.gpu.machine import Machine
from bench.gpu.operations import OPERATIONS
from bench.gpu.operations.base import COMPILED, LOOP_GRAPH, OURS_GRAPH, Operation
from bench.gpu.results import Row
from bench.gpu.steps import reason

_OPERATIONS = ("forward", "auto-encoder step")
# the allocator does not count what a graph's pool holds
_NOT_COUNTED = (COMPILED, OURS_GRAPH, LOOP_GRAPH)
_CALLS = 3


def _peak_mb(operation: Operation, case: Case, provider: str, machine: Machine) -> float:
    """In MB (1e6 bytes), above what was allocated before."""
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    sets: list[Inputs] = [make_inputs(case, 0, operation.needs_encoder, operation.needs_decoder, machine.device)]
    step = operation.providers(case, sets)[provider]()
    # a loop's decoders have copied theirs
    sets.clear()
    torch.cuda.reset_peak_memory_stats()
    for _ in range(_CALLS):
        step(0, NoClock())
    synchronize(machine.device)
    return (torch.cuda.max_memory_allocated() - before) / 1e6


def _cases(smoke: bool) -> list[Case]:
    if smoke:
        return [Case(2, 4, 8, torch.float32, num_maps=2)]
    return [Case(12, 64, 128, dtype) for dtype in (torch.float32, torch.bfloat16)]


def _row(operation: Operation, case: Case, provider: str, machine: Machine) -> Row:
    row: Row = {"operation": operation.name, "case": case.label, "provider": provider}
    if machine.device.type != "cuda":
        return {**row, "left_out": "only a GPU's memory is measured"}
    try:
        return {**row, "peak_mb": _peak_mb(operation, case, provider, machine)}
    # one provider's failure is a row, not the end of the run
    except Exception as error:
        return {**row, "left_out": reason(error)}


def peaks(machine: Machine) -> list[Row]:
    """One row an operation, case and provider: "peak_mb", or "left_out"."""
    rows = []
    for operation in OPERATIONS:
        if operation.name not in _OPERATIONS:
            continue
        for case in _cases(machine.smoke):
            # views of nothing: only the names are wanted
            names = operation.providers(case, [make_inputs(Case(1, 1, 1, case.dtype, num_maps=1), 0)])
            rows += [_row(operation, case, name, machine) for name in names if name not in _NOT_COUNTED]
    return rows
