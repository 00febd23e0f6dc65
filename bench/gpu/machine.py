"""The card that is measured, or the CPU that plays one in smoke mode, and what decides the numbers."""

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch

import spf_kernels
from spf_kernels.selection import backend_named

# of the interpreter's machine, so that a rotation of weight sets stays small
_SMOKE_L2_BYTES = 1 << 10


@dataclass(frozen=True)
class Machine:
    """Where everything runs.

    Attributes:
        device: Of all tensors.
        smoke: Whether the kernels are interpreted on the CPU, so that nothing is measured.
        cache_bytes: Of the L2 cache.
        facts: For the report.
    """

    device: torch.device
    smoke: bool
    cache_bytes: int
    facts: dict[str, Any]


def find() -> Machine:
    """The current GPU, or the CPU where SPF_GPU_SMOKE=1; from then on every kernel of ours is Triton's.

    Raises:
        RuntimeError: No GPU in this machine and no smoke mode, or smoke mode without the interpreter.
        spf_kernels.TritonUnavailableError: Triton cannot be imported.
    """
    smoke = os.environ.get("SPF_GPU_SMOKE") == "1"
    if smoke:
        if not backend_named("triton").INTERPRETED:
            raise RuntimeError("SPF_GPU_SMOKE=1 needs TRITON_INTERPRET=1 too; bench/gpu.sh sets it")
        # Triton's interpreter is wrong about bfloat16; the tests know how to mend it
        from tests.spf_kernels.interpreter import mend

        mend()
    elif not torch.cuda.is_available():
        raise RuntimeError("no GPU that PyTorch can use; SPF_GPU_SMOKE=1 bash bench/gpu.sh rehearses on a CPU")
    spf_kernels.use_backend("triton")
    facts = {"smoke": smoke, **(_cpu_facts() if smoke else _gpu_facts()), **_software()}
    cache_bytes = _SMOKE_L2_BYTES if smoke else torch.cuda.get_device_properties(0).L2_cache_size
    return Machine(torch.device("cpu" if smoke else "cuda"), smoke, cache_bytes, facts)


def _cpu_facts() -> dict[str, Any]:
    return {"name": "smoke", "card": "none: Triton's interpreter on a CPU"}


def _gpu_facts() -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(0)
    capability = f"{properties.major}.{properties.minor}"
    return {
        "name": properties.name,
        "card": (
            f"{properties.total_memory / 1e9:.0f} GB, {properties.multi_processor_count} multiprocessors, "
            f"{properties.L2_cache_size / 2**20:.0f} MiB of L2, compute capability {capability}"
        ),
        "driver": _driver(),
    }


def _driver() -> str:
    if not shutil.which("nvidia-smi"):
        return "unknown"
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return result.stdout.strip().partition("\n")[0] or "unknown"


def _software() -> dict[str, Any]:
    return {
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda),
        "triton": version("triton"),
        "python": platform.python_version(),
        "spf_kernels": spf_kernels.__version__,
    }
