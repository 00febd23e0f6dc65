"""`python -m spf_kernels`: what was built, which backend runs where, and why. With `memory`: what fits which card."""

import argparse
import importlib.metadata
import platform
import sys
from collections.abc import Sequence

import torch

import spf_kernels
from spf_kernels import footprint_tables
from spf_kernels.backends import native
from spf_kernels.selection import requested_backend, select, triton_unavailable

_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def _native_lines() -> list[str]:
    why = native.unavailable()
    if why:
        return [f"native kernels    no: {why}"]
    module = native.extension()
    threads = f"OpenMP, {torch.get_num_threads()}" if module.openmp else "1 (built without OpenMP)"
    others = ", ".join(module.available_isas())
    return [
        f"native kernels    {module.__file__}",
        f"  compiler        {module.compiler}",
        f"  threads         {threads}",
        f"  instructions    {module.selected_isa()} (available: {others}; SPF_ISA forces one)",
        f"  buffer cache    at most {module.cache_statistics()['limit_bytes'] >> 20} MiB unused (SPF_CACHE_LIMIT_MB)",
    ]


def _backend_line(device: str, dtype: torch.dtype) -> str:
    try:
        backend = select(torch.device(device), dtype)
    except TypeError as error:
        return f"  {device}, {str(dtype).removeprefix('torch.'):<9} error: {error}"
    return f"  {device}, {str(dtype).removeprefix('torch.'):<9} {backend.NAME}"


def _gpu_lines() -> list[str]:
    why = triton_unavailable()
    kernels = f"no: {why}" if why else importlib.metadata.version("triton")
    lines = [f"triton kernels    {kernels}"]
    for device in ("cuda", "xpu"):
        if getattr(torch, device).is_available():
            untested = device == "xpu" or torch.version.hip
            lines.append(
                f"  {getattr(torch, device).get_device_name(0)}" + (" (not tested on such a card)" * bool(untested))
            )
            lines += [_backend_line(device, dtype) for dtype in _DTYPES]
    return lines if len(lines) > 1 else [*lines, "  no GPU"]


def _report() -> str:
    lines = [
        f"spf_kernels       {spf_kernels.__version__}",
        f"python, torch     {platform.python_version()}, {torch.__version__}",
        f"machine           {platform.machine()}",
        *_native_lines(),
        f"backend requested {requested_backend()} (use_backend or SPF_BACKEND)",
        *(_backend_line("cpu", dtype) for dtype in _DTYPES),
        *_gpu_lines(),
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] = ()) -> None:
    """Prints the report, or with "memory" the bytes of a training step.

    Args:
        arguments: Of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m spf_kernels", description="Without a command: what runs, and why.")
    commands = parser.add_subparsers(dest="command")
    memory = commands.add_parser("memory", help="bytes of a training step by mode, and the cards that hold them")
    footprint_tables.add_arguments(memory)
    chosen = parser.parse_args(arguments)
    if chosen.command is None:
        print(_report())
        return
    try:
        print(footprint_tables.tables(chosen))
    except ValueError as error:
        memory.error(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
