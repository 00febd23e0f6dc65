"""The peak memory of an auto-encoder training step, each provider in a process of its own.

`python -m bench.memory PROVIDER BATCH SIDE CODE_SIZE DTYPE NUM_MAPS` prints it as JSON.
"""

import json
import subprocess
import sys
from pathlib import Path

import torch

from bench import cases, peers
from bench.cases import Case
from bench.steps import TrainingStep

_STEPS = 4
_ROOT = Path(__file__).resolve().parent.parent


def _status_mb(field: str) -> float:
    """A field of /proc/self/status in MB (1e6 bytes). getrusage would count what the parent had before exec."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"/proc/self/status must have a field {field}")


def _peak_of_steps(case: Case, provider: str) -> dict[str, float]:
    """Before the parameters exist and at the peak of some steps, in MB."""
    before = _status_mb("VmRSS")
    inputs = cases.make_inputs(case, seed=0)
    module = peers.AUTOENCODERS[provider](inputs.weight, inputs.bias, inputs.decoder_weight, inputs.decoder_bias)
    step = TrainingStep([module], [(inputs.maps,)], (True,), (inputs.codes_gradient, None))
    # a loop's decoders have copied theirs
    del inputs, module
    for _ in range(_STEPS):
        step(0)
    return {"before": round(before, 1), "peak": round(_status_mb("VmHWM"), 1)}


def measure(case: Case, provider: str) -> dict[str, float]:
    """Runs the steps in a new process.

    Returns:
        Resident memory in MB: "before" (interpreter, torch, the library) and at the "peak".
    """
    sizes = [case.batch, case.side, case.code_size, str(case.dtype).removeprefix("torch."), case.num_maps]
    command = [sys.executable, "-m", "bench.memory", provider, *map(str, sizes)]
    result = subprocess.run(command, cwd=_ROOT, check=True, stdout=subprocess.PIPE, text=True)
    peak: dict[str, float] = json.loads(result.stdout)
    return peak


def main() -> None:
    provider, batch, side, code_size, dtype, num_maps = sys.argv[1:]
    case = Case(int(batch), int(side), int(code_size), getattr(torch, dtype), int(num_maps))
    print(json.dumps(_peak_of_steps(case, provider)))


if __name__ == "__main__":
    main()
