"""The peak memory of an auto-encoder's step, each provider in a process of its own.

`python -m bench.memory STEP PROVIDER BATCH SIDE CODE_SIZE DTYPE NUM_MAPS` prints it as JSON.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from bench import cases, optimizers, peers
from bench.cases import Case
from bench.steps import Step, TrainingStep, UpdatingStep

GRADIENTS = "auto-encoder step"
TRAINING = "training step"
_CALLS = 4
_ROOT = Path(__file__).resolve().parent.parent
# of everything that a first call loads: libraries, threads, a compiler
_WARM_UP = Case(2, 4, 4, torch.float32, num_maps=2)


def _gradients(case: Case, provider: str) -> Step:
    inputs = cases.make_inputs(case, seed=0)
    module = peers.AUTOENCODERS[provider](inputs.weight, inputs.bias, inputs.decoder_weight, inputs.decoder_bias)
    # a loop's decoders have copied theirs: what the inputs hold beside the module goes
    return TrainingStep([module], [(inputs.maps,)], (True,), (inputs.codes_gradient, None))


def _training(case: Case, provider: str) -> Step:
    inputs = cases.make_inputs(case, seed=0)
    trainer = optimizers.TRAINERS[provider](inputs)
    return UpdatingStep(trainer.module, (inputs.maps,), (inputs.codes_gradient, None), trainer.update)


# by step: what builds a provider's, and the providers, ours last
_STEPS: dict[str, tuple[Callable[[Case, str], Step], list[str]]] = {
    GRADIENTS: (_gradients, list(peers.AUTOENCODERS)),
    TRAINING: (_training, list(optimizers.TRAINERS)),
}


def _status_mb(field: str) -> float:
    """A field of /proc/self/status in MB (1e6 bytes). getrusage would count what the parent had before exec."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"/proc/self/status must have a field {field}")


def _call(step: Step) -> None:
    for _ in range(_CALLS):
        step(0)


def _peak_of_calls(case: Case, what: str, provider: str) -> dict[str, float]:
    """Before the parameters exist and at the peak of some calls, in MB."""
    build, _ = _STEPS[what]
    _call(build(_WARM_UP, provider))
    before = _status_mb("VmRSS")
    _call(build(case, provider))
    return {"before": round(before, 1), "peak": round(_status_mb("VmHWM"), 1)}


def measure(case: Case, what: str, provider: str) -> dict[str, float]:
    """Runs the calls in a new process.

    Returns:
        Resident memory in MB: "before" (interpreter, torch, the library, a tiny step) and at the "peak".
    """
    sizes = [case.batch, case.side, case.code_size, str(case.dtype).removeprefix("torch."), case.num_maps]
    command = [sys.executable, "-m", "bench.memory", what, provider, *map(str, sizes)]
    result = subprocess.run(command, cwd=_ROOT, check=True, stdout=subprocess.PIPE, text=True)
    peak: dict[str, float] = json.loads(result.stdout)
    return peak


def providers(what: str) -> list[str]:
    """Of a step, ours last."""
    return _STEPS[what][1]


def growth(peak: dict[str, float]) -> float:
    """What the step itself takes, in MB."""
    return peak["peak"] - peak["before"]


def main() -> None:
    what, provider, batch, side, code_size, dtype, num_maps = sys.argv[1:]
    case = Case(int(batch), int(side), int(code_size), getattr(torch, dtype), int(num_maps))
    print(json.dumps(_peak_of_calls(case, what, provider)))


if __name__ == "__main__":
    main()
