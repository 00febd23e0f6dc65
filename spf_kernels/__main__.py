"""`python -m spf_kernels`: what was built, which backend runs where, and why."""

import platform

import torch

import spf_kernels
from spf_kernels.backends import native
from spf_kernels.selection import requested_backend, select


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


def main() -> None:
    """Prints the report."""
    lines = [
        f"spf_kernels       {spf_kernels.__version__}",
        f"python, torch     {platform.python_version()}, {torch.__version__}",
        f"machine           {platform.machine()}",
        *_native_lines(),
        f"backend requested {requested_backend()} (use_backend or SPF_BACKEND)",
        *(_backend_line("cpu", dtype) for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64)),
    ]
    if torch.cuda.is_available():
        lines.append(_backend_line("cuda", torch.float32))
    print("\n".join(lines))


if __name__ == "__main__":
    main()
