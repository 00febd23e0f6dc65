"""What is measured, the most important first; what time does not suffice for is reported as not measured."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product

import torch

from bench.cases import Case
from bench.gpu.machine import Machine
from bench.gpu.rounds import CALLS

# the settings of torch.set_float32_matmul_precision; bfloat16 has one precision
EXACT, FAST = "highest", "high"
_FP32, _TF32, _BF16 = (torch.float32, EXACT), (torch.float32, FAST), (torch.bfloat16, EXACT)


@dataclass(frozen=True)
class Setting:
    """A size and the precision of its products.

    Attributes:
        case: B, C, D, S and the dtype.
        precision: Of float32 products: "highest" is fp32 (tf32x3 in our kernels), "high" is tf32.
    """

    case: Case
    precision: str

    @property
    def label(self) -> str:
        """Such as "B12-64x64-D128-tf32"."""
        return self.case.label.replace("fp32", "tf32") if self.precision == FAST else self.case.label

    @property
    def largest_error(self) -> float:
        """Relative, in the 2-norm, against float64: beyond it something else was computed."""
        if self.case.dtype == torch.bfloat16:
            return 1.5e-2
        # matrix units truncate their sums: the error grows with the pixels
        return 5e-3 if self.precision == FAST else 5e-5 * max(1, self.case.pixels / 4096)

    @property
    def is_main(self) -> bool:
        return self.case.is_main

    @property
    def seconds(self) -> float:
        """How long the rounds of one operation may take."""
        return 1.5 if self.is_main else 0.3


@contextmanager
def precision_of(setting: Setting) -> Iterator[None]:
    """PyTorch's products, convolutions included, and ours in the setting's precision."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision(setting.precision)
    torch.backends.cudnn.allow_tf32 = setting.precision == FAST
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


@dataclass(frozen=True)
class Planned:
    """A setting and the names of the operations to measure at it; None for all."""

    setting: Setting
    operations: tuple[str, ...] | None = None

    def includes(self, operation: str) -> bool:
        return self.operations is None or operation in self.operations


def _distance(case: Case) -> int:
    """In how many of batch, map and code size a case differs from the main one."""
    return (case.batch != 12) + (case.side != 64) + (case.code_size != 128)


def _grid() -> list[Setting]:
    settings = []
    for batch, side, code_size in product((12, 64, 1), (64, 32, 16), (128, 32, 256)):
        for dtype, precision in (_FP32, _BF16, _TF32):
            case = Case(batch, side, code_size, dtype)
            if precision == EXACT or case.is_paper_size:
                settings.append(Setting(case, precision))
    # among the main one's neighbours the other batches come first
    return sorted(settings, key=lambda setting: (_distance(setting.case), setting.case.batch == 12))


def _large() -> list[Planned]:
    """Maps of 512x512: up to 4.3 G weights, so the forward alone."""
    sizes = product((32, 128), (_BF16, _FP32), (12, 1))
    settings = [
        Setting(Case(batch, 512, code_size, dtype), precision) for code_size, (dtype, precision), batch in sizes
    ]
    return [Planned(setting, ("forward",)) for setting in settings]


def plan(smoke: bool) -> list[Planned]:
    """Every setting in order of importance; for `smoke` three tiny ones.

    First the main size, then what differs from it in one of batch, map and code size, both with every operation; then
    512x512; then the rest with what users call.
    """
    if smoke:
        tiny = [Setting(Case(2, 4, 8, dtype, num_maps=2), precision) for dtype, precision in (_FP32, _BF16, _TF32)]
        return [Planned(tiny[0]), Planned(tiny[1]), Planned(tiny[2], ("forward",))]
    grid = _grid()
    near = [Planned(setting) for setting in grid if _distance(setting.case) <= 1]
    users = ("forward", "backward", "auto-encoder step")
    far = [Planned(setting, users) for setting in grid if _distance(setting.case) > 1]
    return [*near, *_large(), *far]


def weight_sets(case: Case, machine: Machine) -> int:
    """How many weight sets a turn takes one after the other, so that the L2 cache holds none when its turn comes."""
    return max(1, min(CALLS, math.ceil(10 * machine.cache_bytes / case.weight_bytes)))


def bytes_needed(case: Case, sets: int) -> int:
    """About what the weights, maps and codes of a forward take, with a tenth on top."""
    return int(1.1 * (sets * (case.weight_bytes + case.maps_bytes) + 8 * case.codes_bytes))
