"""What is measured: the sizes, their inputs, and the bytes each operation has to move."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from spf_kernels.backends import native

_L3_FILE = Path("/sys/devices/system/cpu/cpu0/cache/index3/size")
_USUAL_L3_BYTES = 32 << 20
_SUFFIXES = {torch.float32: "fp32", torch.bfloat16: "bf16"}


@dataclass(frozen=True)
class Case:
    """One size of the problem.

    Attributes:
        batch: B.
        side: Height and width of a map; S = side * side pixels.
        code_size: D.
        dtype: Of maps and weights alike.
        num_maps: C.
    """

    batch: int
    side: int
    code_size: int
    dtype: torch.dtype
    num_maps: int = 128

    @property
    def label(self) -> str:
        maps = "" if self.num_maps == 128 else f"-C{self.num_maps}"
        return f"B{self.batch}-{self.side}x{self.side}-D{self.code_size}{maps}-{_SUFFIXES[self.dtype]}"

    @property
    def pixels(self) -> int:
        return self.side * self.side

    @property
    def is_paper_size(self) -> bool:
        """128 maps of 64x64 to codes of 128, at any batch size."""
        return (self.num_maps, self.side, self.code_size) == (128, 64, 128)

    @property
    def is_main(self) -> bool:
        return self.is_paper_size and self.batch == 12

    @property
    def weight_bytes(self) -> int:
        """C * D * S elements."""
        return self.num_maps * self.code_size * self.pixels * self.dtype.itemsize

    @property
    def maps_bytes(self) -> int:
        """B * C * S elements."""
        return self.batch * self.num_maps * self.pixels * self.dtype.itemsize

    @property
    def codes_bytes(self) -> int:
        """B * C * D elements."""
        return self.batch * self.num_maps * self.code_size * self.dtype.itemsize

    @property
    def seconds(self) -> float:
        """How long the rounds of one test may take (at least `rounds.LEAST_ROUNDS` run all the same)."""
        if self.num_maps < 128:
            return 0.3
        if self.is_main:
            return 12.0
        return 4.0 if self.is_paper_size else 1.0


def forward_bytes(case: Case) -> int:
    """Encoder: reads maps, weight, bias; writes codes."""
    bias = case.num_maps * case.code_size * case.dtype.itemsize
    return case.maps_bytes + case.weight_bytes + bias + case.codes_bytes


def backward_bytes(case: Case, maps_gradient: bool) -> int:
    """Encoder: reads codes' gradient, maps, writes weight's, bias' gradient; for the maps' also weight and maps."""
    bias = case.num_maps * case.code_size * case.dtype.itemsize
    for_maps = case.weight_bytes + case.maps_bytes if maps_gradient else 0
    return case.codes_bytes + case.maps_bytes + case.weight_bytes + bias + for_maps


def decoder_bytes(case: Case) -> int:
    """Decoder, loss and gradients: reads codes, maps, weight, bias; writes the gradients of codes, weight, bias."""
    bias = case.num_maps * case.pixels * case.dtype.itemsize
    return 2 * case.codes_bytes + case.maps_bytes + 2 * case.weight_bytes + 2 * bias


def update_bytes(case: Case, state_itemsize: int = 4) -> int:
    """NAdam on one weight from factors: reads them; reads and writes weight, momentum, variance."""
    state = case.weight_bytes // case.dtype.itemsize * state_itemsize
    return case.codes_bytes + case.maps_bytes + 2 * (case.weight_bytes + 2 * state)


def training_bytes(case: Case, state_itemsize: int = 4) -> int:
    """Encode, decode, loss, the gradients of maps and codes, both weights' update: no weight gradient is written."""
    backward = case.codes_bytes + case.weight_bytes + case.maps_bytes
    decoder = decoder_bytes(case) - case.weight_bytes
    return forward_bytes(case) + backward + decoder + 2 * update_bytes(case, state_itemsize)


@dataclass(frozen=True)
class Inputs:
    """The tensors of one weight set.

    Attributes:
        maps: (B, C, H, W).
        weight: (C, D, S), the encoder's.
        bias: (C, D).
        codes_gradient: (B, C*D), what the classifier sends back.
        codes: (B, C*D), the decoder's input.
        decoder_weight: (C, D, S).
        decoder_bias: (C, S).
    """

    maps: Tensor
    weight: Tensor
    bias: Tensor
    codes_gradient: Tensor
    codes: Tensor
    decoder_weight: Tensor
    decoder_bias: Tensor


def _last_level_cache_bytes() -> int:
    """The L3 cache as Linux states it (such as "32768K"), else a usual size."""
    if not _L3_FILE.exists():
        return _USUAL_L3_BYTES
    return int(_L3_FILE.read_text().strip().removesuffix("K")) << 10


def rotation(case: Case) -> int:
    """How many weight sets to take in turn so that the cache holds none of them when its turn comes."""
    return math.ceil(2 * _last_level_cache_bytes() / case.weight_bytes) if case.num_maps == 128 else 2


def make_inputs(
    case: Case, seed: int, encoder: bool = True, decoder: bool = True, device: str | torch.device = "cpu"
) -> Inputs:
    """Random inputs, initialised as nn.Linear initialises its own; parts not asked for are empty."""
    generator = torch.Generator(device).manual_seed(seed)
    B, C, D, S = case.batch, case.num_maps, case.code_size, case.pixels

    def uniform(bound: float, *shape: int) -> Tensor:
        values = torch.empty(shape, dtype=case.dtype, device=device)
        # as our modules do for their weights; here the peers read the same memory
        native.advise_huge_pages(values)
        return values.uniform_(-bound, bound, generator=generator)

    nothing = torch.empty(0, dtype=case.dtype, device=device)
    return Inputs(
        maps=uniform(1.0, B, C, case.side, case.side),
        weight=uniform(1 / math.sqrt(S), C, D, S) if encoder else nothing,
        bias=uniform(1 / math.sqrt(S), C, D) if encoder else nothing,
        codes_gradient=uniform(1.0, B, C * D),
        codes=uniform(1.0, B, C * D),
        decoder_weight=uniform(1 / math.sqrt(D), C, D, S) if decoder else nothing,
        decoder_bias=uniform(1 / math.sqrt(D), C, S) if decoder else nothing,
    )


def all_cases(quick: bool) -> list[Case]:
    """Every size, the main case first; for `quick` a few tiny ones."""
    dtypes = (torch.float32, torch.bfloat16)
    if quick:
        return [Case(batch, 8, 8, dtype, num_maps=4) for dtype, batch in zip(dtypes, (12, 1), strict=True)]
    sizes = [(side, code_size) for side in (64, 32, 16) for code_size in (128, 32)]
    cases = [Case(batch, *size, dtype) for size in sizes for dtype in dtypes for batch in (12, 1, 4, 32)]
    return sorted(cases, key=lambda case: not case.is_main)


def paper_size_cases(quick: bool) -> list[Case]:
    """The cases of the paper's size, any batch; for `quick` a tiny one."""
    cases = all_cases(quick)
    return cases[:1] if quick else [case for case in cases if case.is_paper_size]


def training_cases(quick: bool) -> list[Case]:
    """The cases of the paper's size in float32, any batch; for `quick` a tiny one."""
    return [case for case in paper_size_cases(quick) if case.dtype == torch.float32]


def main_case(quick: bool) -> Case:
    """The first of all cases: B=12, 128 maps of 64x64, codes of 128, float32."""
    return all_cases(quick)[0]
