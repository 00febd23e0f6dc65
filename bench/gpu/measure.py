"""Measures what is planned until time is up: `python -m bench.gpu.measure FOLDER --seconds N`.

After each operation the results so far are written, so that a run which is stopped has lost nothing.
"""

import argparse
import gc
import json
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from time import perf_counter

import torch

from bench import gate
from bench.cases import Inputs, make_inputs
from bench.files import write_atomically
from bench.gate import Values
from bench.gpu import host, limits, memory
from bench.gpu.clock import NoClock, clock_for, synchronize
from bench.gpu.machine import Machine, find
from bench.gpu.operations import OPERATIONS
from bench.gpu.operations.base import COMPILED, Builder, Operation
from bench.gpu.plan import Planned, Setting, bytes_needed, plan, precision_of, weight_sets
from bench.gpu.results import COMPILE_SECONDS, MEASUREMENTS, Results, Row, to_json
from bench.gpu.rounds import Lead, interleave, summarise
from bench.gpu.steps import Step, UnavailableError, reason
from bench.peers import OURS
from bench.steps import BACKWARD

# a provider so slow that its rounds would take the others' time
_SLOWEST_SECONDS = 0.2
_SMOKE_ROUNDS = 1


def checked(build: Builder, exact: Values, setting: Setting, machine: Machine) -> tuple[Step, float]:
    """A provider's step that has given the right results once, and its largest error.

    Raises:
        AssertionError: Something else was computed.
        UnavailableError: It takes so long that its rounds would take the others' time.
    """
    step = build()
    step(0, NoClock())
    errors = gate.errors(step.values(setting.case.num_maps), exact)
    for name, error in errors.items():
        if not error <= setting.largest_error:
            raise AssertionError(f"{name} must be within {setting.largest_error} of float64, got {error:.2e}")
    synchronize(machine.device)
    start = perf_counter()
    step(0, NoClock())
    synchronize(machine.device)
    seconds = perf_counter() - start
    if seconds > _SLOWEST_SECONDS and not machine.smoke:
        raise UnavailableError(f"one call takes {seconds:.2f} s: too slow to be repeated")
    return step, max(errors.values())


class Session:
    """One measuring process.

    Args:
        machine: What is measured.
        folder: Where the results go.
    """

    def __init__(self, machine: Machine, folder: Path) -> None:
        self.machine = machine
        self._file = folder / MEASUREMENTS
        self._lead = Lead(machine)
        found = folder / COMPILE_SECONDS
        compile_seconds = json.loads(found.read_text()) if found.exists() else {}
        self.results = Results(machine.facts, datetime.now().isoformat(timespec="seconds"), {}, compile_seconds)
        self.failed = False

    def save(self) -> None:
        write_atomically(self._file, to_json(self.results))

    def _steps(self, operation: Operation, setting: Setting, sets: Sequence[Inputs]) -> tuple[dict[str, Step], Row]:
        """The steps that take part and the errors they made; the others become rows."""
        exact, steps, errors = operation.exact(sets[0]), dict[str, Step](), Row()
        case = {"operation": operation.name, "case": setting.label}
        for name, build in operation.providers(setting.case, sets).items():
            try:
                if name == COMPILED and operation.compiles(setting.case):
                    self._check_compiled(f"{operation.name}, {setting.label}")
                steps[name], errors[name] = checked(build, exact, setting, self.machine)
            # a peer may fail in any way; ours is counted as a failure of the run
            except Exception as error:
                self.results.rows.append({**case, "provider": name, "left_out": reason(error)})
                self.failed = self.failed or (name.startswith(OURS) and not isinstance(error, UnavailableError))
        return steps, errors

    def _check_compiled(self, key: str) -> None:
        if key not in self.results.compile_seconds:
            raise UnavailableError("compile time: its turn did not come within the stage's limit")

    def measure(self, operation: Operation, setting: Setting, sets: Sequence[Inputs]) -> None:
        """All providers of one operation at one setting."""
        with precision_of(setting):
            # one size compiled at a time: its best form
            torch._dynamo.reset()
            steps, errors = self._steps(operation, setting, sets)
            recorded = interleave(
                steps,
                len(sets),
                self._lead,
                clock_for(self.machine.device),
                setting.seconds,
                _SMOKE_ROUNDS if self.machine.smoke else None,
            )
        copy_rate = float(self.results.limits[limits.COPY]["gb_per_s"]) * 1e9
        for row in summarise(recorded, operation.num_bytes(setting.case), copy_rate):
            head = {"operation": operation.name, "case": setting.label}
            self.results.rows.append({**head, **row, "error": errors[row["provider"]]})

    def left_out(self, operation: Operation, setting: Setting, why: str) -> None:
        row = {"operation": operation.name, "case": setting.label, "provider": "all", "left_out": why}
        self.results.rows.append(row)

    def measure_all(self, planned: Planned, deadline: float) -> None:
        """Every planned operation of one setting, on the same weight sets."""
        setting, machine = planned.setting, self.machine
        operations = [operation for operation in OPERATIONS if planned.includes(operation.name)]
        sets_needed = weight_sets(setting.case, machine)
        try:
            _check_memory(setting, sets_needed, machine)
            decoder = any(operation.needs_decoder for operation in operations)
            sets = [make_inputs(setting.case, seed, True, decoder, machine.device) for seed in range(sets_needed)]
        except (UnavailableError, torch.cuda.OutOfMemoryError) as error:
            for operation in operations:
                self.left_out(operation, setting, reason(error))
            return
        for operation in operations:
            # what has no row is reported as not measured
            if perf_counter() > deadline:
                return
            try:
                self.measure(operation, setting, sets)
            except Exception as error:
                self.left_out(operation, setting, reason(error))
                self.failed = True
            _free()
            self.save()


def _check_memory(setting: Setting, sets: int, machine: Machine) -> None:
    if machine.device.type != "cuda":
        return
    needed, free = bytes_needed(setting.case, sets), torch.cuda.mem_get_info()[0]
    if needed > free:
        raise UnavailableError(f"memory: needs {needed / 1e9:.0f} GB, {free / 1e9:.0f} GB are free")


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _progress(session: Session, label: str) -> None:
    ours = [row for row in session.results.rows if row["case"] == label and row["provider"] == OURS]
    measured = "; ".join(
        f"{row['operation']} {row['median_ms']:.4g}" for row in ours if row.get("span", BACKWARD) != BACKWARD
    )
    print(f"{label}, ms: {measured or 'nothing measured'}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.measure", description="Measures until time is up.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, required=True, help="when to begin nothing more")
    arguments = parser.parse_args()
    deadline = perf_counter() + arguments.seconds
    machine = find()
    # the convolution in its best form too
    torch.backends.cudnn.benchmark = True
    session = Session(machine, arguments.folder)
    everything = plan(machine.smoke)
    session.results.planned = [
        {"operation": operation.name, "case": planned.setting.label}
        for planned in everything
        for operation in OPERATIONS
        if planned.includes(operation.name)
    ]
    session.results.limits = limits.memory_rates(machine) | limits.matrix_rates(machine)
    session.results.host = host.microseconds(machine)
    _free()
    session.results.memory = memory.peaks(machine)
    session.save()
    for planned in everything:
        if perf_counter() > deadline:
            break
        session.measure_all(planned, deadline)
        _free()
        _progress(session, planned.setting.label)
    session.save()
    return int(session.failed)


if __name__ == "__main__":
    sys.exit(main())
