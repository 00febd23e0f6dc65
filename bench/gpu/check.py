"""Whether the kernels compute the right thing on this card: `python -m bench.gpu.check [--smallest]`. No pytest needed.

Fresh random inputs each run (the seed is printed), every output and workspace full of NaN beforehand, float64 as the
truth, the same bits on every repeat, on another stream and from a CUDA graph. `--smallest` keeps what compute-sanitizer
can go through.
"""

import argparse
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from bench.gpu.machine import Machine, find
from spf_kernels.backends import reference
from spf_kernels.backends import triton as kernels

Kind = tuple[torch.dtype, str]
Results = tuple[Tensor, ...]
Kernel = Callable[[], Results]

# relative, in the 2-norm, against float64 on the same inputs; by dtype and float32 precision. Matrix units truncate
# their sums, so fp32 is granted more than its roundings; plain tf32 would be at 3e-4 or more
LARGEST_ERROR: dict[Kind, float] = {
    (torch.float32, "highest"): 5e-5,
    (torch.float32, "high"): 3e-3,
    (torch.float16, "highest"): 1e-3,
    (torch.bfloat16, "highest"): 6e-3,
}
_REPEATS = 3
_MAIN_REPEATS = 20


@dataclass(frozen=True)
class Sizes:
    """B, C, D, S, and what the kernels get to see besides.

    Attributes:
        strided: Maps and codes as slices of larger tensors.
    """

    batch: int
    num_maps: int
    code_size: int
    pixels: int
    activation: str = "none"
    bias: bool = True
    strided: bool = False


MAIN = Sizes(12, 128, 128, 4096)
SMALLEST = (Sizes(3, 2, 8, 35, "relu"), Sizes(5, 2, 40, 64, "none", bias=False, strided=True))
# odd sizes, batches beyond a tile, codes beyond the largest tile, more pixels than programs
ODD = (
    *SMALLEST,
    Sizes(1, 3, 32, 256, "tanh"),
    Sizes(12, 5, 128, 91, "sigmoid"),
    Sizes(33, 3, 64, 1000, "relu", strided=True),
    Sizes(70, 2, 300, 100, "none"),
)


@dataclass(frozen=True)
class Operands:
    """What the four kernels are called with."""

    codes: Tensor
    maps: Tensor
    weight: Tensor
    code_bias: Tensor | None
    map_bias: Tensor | None
    activation: str

    def double(self, device: torch.device) -> "Operands":
        """In float64 on a device."""

        def change(tensor: Tensor) -> Tensor:
            return tensor.to(device, torch.float64)

        code_bias = None if self.code_bias is None else change(self.code_bias)
        map_bias = None if self.map_bias is None else change(self.map_bias)
        tensors = change(self.codes), change(self.maps), change(self.weight)
        return Operands(*tensors, code_bias, map_bias, self.activation)


def _draw(sizes: Sizes, dtype: torch.dtype, generator: torch.Generator) -> Operands:
    B, C, D, S = sizes.batch, sizes.num_maps, sizes.code_size, sizes.pixels

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(shape, generator=generator, device=generator.device) * scale).to(dtype)

    codes, maps = normal(B, C, D), normal(B, C, S)
    if sizes.strided:
        codes, maps = normal(B, C + 1, D)[:, 1:], normal(B, C + 2, S)[:, :C]
    code_bias, map_bias = (normal(C, D), normal(C, S)) if sizes.bias else (None, None)
    # activations where they bend
    weight = normal(C, D, S, scale=2 * max(D, S) ** -0.5)
    return Operands(codes, maps, weight, code_bias, map_bias, sizes.activation)


def _kernels(backend: object, operands: Operands, dtype: torch.dtype) -> dict[str, Kernel]:
    """Every kernel of a backend on the operands; its results a tuple."""
    codes, maps, weight, activation = operands.codes, operands.maps, operands.weight, operands.activation

    def call(name: str, *arguments: object) -> Kernel:
        def run() -> Results:
            result = getattr(backend, name)(*arguments)
            return (result,) if isinstance(result, Tensor) else tuple(result)

        return run

    return {
        "encode": call("encode", maps, weight, operands.code_bias, activation),
        "decode": call("decode", codes, weight, operands.map_bias, activation),
        "outer": call("outer", codes, maps, dtype),
        "reconstruct": call("reconstruct", codes, maps, weight, operands.map_bias, activation, True, True, True),
    }


@contextmanager
def poisoned() -> Iterator[None]:
    """Every new tensor is full of NaN: `torch.empty` fills under deterministic algorithms."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def _run(kernel: Kernel) -> Results:
    with poisoned():
        return kernel()


def _same(found: Results, expected: Results) -> bool:
    return all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def _captured(kernel: Kernel) -> Results:
    """From the replay of a graph whose outputs were spoilt after the capture."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = kernel()
    for result in results:
        result.fill_(float("nan"))
    graph.replay()
    torch.cuda.synchronize()
    return results


def _on_another_stream(kernel: Kernel) -> Results:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        results = _run(kernel)
    torch.cuda.current_stream().wait_stream(stream)
    return results


def check_kernel(kernel: Kernel, exact: Kernel, limit: float, repeats: int, graph: bool) -> tuple[float, list[str]]:
    """The largest error of a kernel's results, and what is wrong with them.

    Args:
        kernel: Ours.
        exact: In float64.
        limit: For the error.
        repeats: How often the bits are compared.
        graph: Whether to capture a CUDA graph too.
    """
    results, wrong = _run(kernel), []
    largest = 0.0
    for found, truth in zip(results, exact(), strict=True):
        if found.isnan().any():
            wrong.append("NaN: not every element was written")
        error = float((found.to(truth) - truth).norm() / truth.norm().clamp_min(1e-300))
        # NaN is no maximum
        largest = error if not error <= largest else largest
    if not largest <= limit:
        wrong.append(f"error {largest:.2e} above {limit:.0e}")
    if not all(_same(_run(kernel), results) for _ in range(repeats)):
        wrong.append("other bits on a repeat")
    if results[0].is_cuda:
        if not _same(_on_another_stream(kernel), results):
            wrong.append("other bits on another stream")
        if graph and not _same(_captured(kernel), results):
            wrong.append("other bits from a CUDA graph")
    return largest, wrong


def _checks(machine: Machine, smallest: bool) -> list[tuple[Kind, Sizes]]:
    """Dtypes, precisions and sizes; the two main dtypes at every size."""
    main: list[Kind] = [(torch.float32, "highest"), (torch.bfloat16, "highest")]
    if smallest:
        return list(product(main, SMALLEST))
    others = [kind for kind in LARGEST_ERROR if kind not in main]
    if machine.smoke:
        # the interpreter knows no tf32
        return list(product([*main, (torch.float16, "highest")], SMALLEST))
    return [*product(main, (*ODD, MAIN)), *product(others, (*SMALLEST, MAIN))]


def run(machine: Machine, smallest: bool, seed: int) -> int:
    """Checks everything and prints what it found.

    Returns:
        How many checks failed.
    """
    generator = torch.Generator(machine.device).manual_seed(seed)
    largest: dict[str, float] = {}
    failures = 0
    for kind, size in _checks(machine, smallest):
        dtype, precision = kind
        torch.set_float32_matmul_precision(precision)
        operands = _draw(size, dtype, generator)
        # on the CPU where that is quick: a sanitizer then goes through few kernels that are not ours
        truth = operands.double(machine.device if size == MAIN else torch.device("cpu"))
        ours, exact = _kernels(kernels, operands, dtype), _kernels(reference, truth, torch.float64)
        for name, kernel in ours.items():
            repeats = _MAIN_REPEATS if size == MAIN else _REPEATS
            error, wrong = check_kernel(kernel, exact[name], LARGEST_ERROR[kind], repeats, not smallest)
            key = f"{str(dtype).removeprefix('torch.')} {precision}"
            largest[key] = max(largest.get(key, 0.0), error)
            failures += bool(wrong)
            for what in wrong:
                print(f"FAILED {name} {dtype} {precision} {size}: {what}", flush=True)
    torch.set_float32_matmul_precision("highest")
    for key, error in largest.items():
        print(f"check, {key}: largest error {error:.1e}", flush=True)
    return failures


def _poison_works(machine: Machine) -> bool:
    with poisoned():
        return bool(torch.empty(8, device=machine.device).isnan().all())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.check", description="Checks the kernels on this card.")
    parser.add_argument("--smallest", action="store_true", help="two sizes, for compute-sanitizer")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 31), help="random by default")
    arguments = parser.parse_args()
    machine = find()
    if not _poison_works(machine):
        print("FAILED: torch.empty does not fill with NaN here, so unwritten outputs would go unseen")
        return 1
    failures = run(machine, arguments.smallest, arguments.seed)
    print(f"check, seed {arguments.seed}: {f'{failures} FAILED' if failures else 'all right'}")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
