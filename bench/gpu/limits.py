"""What the card does at best: its copy, read and write rates, and its matrix rates. Shares refer to the copy rate."""

from collections.abc import Callable
from statistics import median

import torch

from bench.gpu.clock import clock_for
from bench.gpu.machine import Machine

_REPEATS = 20
COPY = "copy"

Rates = dict[str, dict[str, float | str]]


def _median_seconds(machine: Machine, run: Callable[[], object]) -> float:
    clock = clock_for(machine.device)
    for _ in range(3):
        run()
    stamps = []
    for _ in range(_REPEATS):
        start = clock.stamp()
        run()
        stamps.append((start, clock.stamp()))
    clock.synchronize()
    return median(clock.seconds(start, end) for start, end in stamps)


def memory_rates(machine: Machine) -> Rates:
    """GB/s of a large copy (bytes read plus bytes written), read and write, on random numbers."""
    # far above any L2; four bytes each
    elements = 1 << (8 if machine.smoke else 29)
    source = torch.rand(elements, device=machine.device)
    target = torch.rand(elements, device=machine.device)
    num_bytes = source.numel() * source.itemsize
    runs: dict[str, tuple[int, Callable[[], object], str]] = {
        COPY: (2 * num_bytes, lambda: target.copy_(source), "Tensor.copy_, read and written bytes counted"),
        "read": (num_bytes, source.sum, "torch.sum of float32"),
        "write": (num_bytes, lambda: target.fill_(1.5), "Tensor.fill_ of float32"),
    }
    return {
        name: {"gb_per_s": moved / _median_seconds(machine, run) / 1e9, "method": f"{method}, {num_bytes >> 20} MiB"}
        for name, (moved, run, method) in runs.items()
    }


def matrix_rates(machine: Machine) -> Rates:
    """TFLOP/s of a large square product in bf16 and in tf32, on random numbers."""
    size = 16 if machine.smoke else 8192
    rates: Rates = {}
    for name, dtype, precision in (("bf16", torch.bfloat16, "highest"), ("tf32", torch.float32, "high")):
        torch.set_float32_matmul_precision(precision)
        a, b = (torch.randn(size, size, device=machine.device).to(dtype) for _ in range(2))

        def run(a: torch.Tensor = a, b: torch.Tensor = b) -> object:
            return a @ b

        rate = 2 * size**3 / _median_seconds(machine, run) / 1e12
        rates[f"{name} product"] = {"tflop_per_s": rate, "method": f"torch.matmul, {size} x {size} x {size}"}
    torch.set_float32_matmul_precision("highest")
    return rates
