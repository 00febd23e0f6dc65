"""Makes torch.compile search its kernels before anything is measured, the most important first, until it is stopped.

`python -m bench.gpu.compile_ahead FOLDER`. What PyTorch keeps on disk spares the measuring process the search. After
each one, `compile_seconds.json` says how long it took.
"""

import json
import sys
from pathlib import Path
from time import perf_counter

import torch

from bench.cases import make_inputs
from bench.files import write_atomically
from bench.gpu.clock import NoClock, synchronize
from bench.gpu.machine import Machine, find
from bench.gpu.operations import OPERATIONS
from bench.gpu.operations.base import COMPILED, Operation
from bench.gpu.plan import Setting, plan, precision_of
from bench.gpu.results import COMPILE_SECONDS


def _importance(operation: Operation, setting: Setting) -> int:
    if operation.name == "forward":
        return 0 if setting.is_main else 2
    return 1 if operation.name == "reconstruct" and setting.is_main else 3


def wanted(smoke: bool) -> list[tuple[Operation, Setting]]:
    """Whatever torch.compile takes part in, the most important first; for `smoke` one."""
    found = [
        (operation, planned.setting)
        for planned in plan(smoke)
        for operation in OPERATIONS
        if planned.includes(operation.name) and operation.compiles(planned.setting.case)
    ]
    found.sort(key=lambda pair: _importance(*pair))
    return found[:1] if smoke else found


def _compile(operation: Operation, setting: Setting, machine: Machine) -> float:
    """Seconds until the first call has ended."""
    case = setting.case
    inputs = make_inputs(case, 0, operation.needs_encoder, operation.needs_decoder, machine.device)
    with precision_of(setting):
        torch._dynamo.reset()
        start = perf_counter()
        operation.providers(case, [inputs])[COMPILED]()(0, NoClock())
        synchronize(machine.device)
        return perf_counter() - start


def main() -> None:
    folder, machine = Path(sys.argv[1]), find()
    done: dict[str, float] = {}
    for operation, setting in wanted(machine.smoke):
        key = f"{operation.name}, {setting.label}"
        try:
            done[key] = round(_compile(operation, setting, machine), 1)
        # whatever stops one size, the others are still worth their search
        except Exception as error:
            print(f"torch.compile failed at {key}: {type(error).__name__}: {error}"[:300], flush=True)
            continue
        print(f"torch.compile, {key}: {done[key]} s", flush=True)
        write_atomically(folder / COMPILE_SECONDS, json.dumps(done, indent=1))


if __name__ == "__main__":
    main()
