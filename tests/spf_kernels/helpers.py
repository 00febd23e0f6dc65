"""What the tests of the kernels share: inputs, PyTorch's answer in the same dtype, the float64 truth, the budget.

Which kernels are tested, and where, is the environment's to say: SPF_TEST_BACKEND "native" (the default) or "triton",
SPF_TEST_DEVICE "cpu" (the default) or "cuda". Triton on the CPU is Triton's interpreter, TRITON_INTERPRET=1.
"""

import os
from collections.abc import Callable, Sequence
from itertools import product
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from spf_kernels.backends import native, reference
from spf_kernels.selection import backend_named

NAME = os.environ.get("SPF_TEST_BACKEND", "native")
DEVICE = torch.device(os.environ.get("SPF_TEST_DEVICE", "cpu"))
INTERPRETED = (NAME, DEVICE.type) == ("triton", "cpu")
if (NAME, DEVICE.type) not in (("native", "cpu"), ("triton", "cpu"), ("triton", "cuda")):
    raise pytest.UsageError(f"no tests for SPF_TEST_BACKEND={NAME} with SPF_TEST_DEVICE={DEVICE}")
if DEVICE.type == "cuda" and not torch.cuda.is_available():
    raise pytest.UsageError(f"SPF_TEST_DEVICE={DEVICE}, but torch {torch.__version__} finds no GPU")
BACKEND = backend_named(NAME)
if NAME == "triton" and BACKEND.INTERPRETED != INTERPRETED:
    raise pytest.UsageError("the Triton kernels take TRITON_INTERPRET=1 on the CPU, and only there")

ACTIVATIONS = reference.ACTIVATIONS
DTYPES = (torch.float32, torch.bfloat16, torch.float16) if NAME == "triton" else (torch.float32, torch.bfloat16)
# csrc may take other instructions for bfloat16, Triton's kernels are the same
KERNEL_DTYPES = DTYPES if NAME == "native" else DTYPES[:1]
# maps (or codes) and weights: one dtype, or float32 together with one low precision
DTYPE_PAIRS = [pair for pair in product(DTYPES, DTYPES) if len(set(pair)) == 1 or torch.float32 in pair]
EPS32 = torch.finfo(torch.float32).eps
ISAS: list[str] = [] if native.unavailable() else native.extension().available_isas()
needs_native = pytest.mark.skipif(native.unavailable() is not None, reason="the extension is not built")
needs_kernels = pytest.mark.skipif(
    NAME == "native" and native.unavailable() is not None, reason="the extension is not built"
)
# all combinations; of Triton's, each of which is compiled or interpreted, every pair with two activations
LAYERS = [(activation, *pair) for activation, pair in product(ACTIVATIONS, DTYPE_PAIRS)]
if NAME == "triton":
    LAYERS = [(ACTIVATIONS[i % 4], *DTYPE_PAIRS[i % 7]) for i in range(14)]


def _short(value: object) -> str:
    return str(value).removeprefix("torch.")


dtype_pairs = pytest.mark.parametrize(("dtype", "weight_dtype"), DTYPE_PAIRS, ids=_short)
layers = pytest.mark.parametrize(("activation", "dtype", "weight_dtype"), LAYERS, ids=_short)


class Case(NamedTuple):
    """Inputs of all kernels: B samples, C maps, D code elements, S pixels."""

    codes: Tensor
    maps: Tensor
    weight: Tensor
    encoder_bias: Tensor | None
    decoder_bias: Tensor | None
    activation: str

    def apply(self, change: Callable[[Tensor], Tensor]) -> "Case":
        """Every tensor changed."""
        encoder_bias = None if self.encoder_bias is None else change(self.encoder_bias)
        decoder_bias = None if self.decoder_bias is None else change(self.decoder_bias)
        changed = (change(self.codes), change(self.maps), change(self.weight))
        return Case(*changed, encoder_bias, decoder_bias, self.activation)

    def to(self, dtype: torch.dtype) -> "Case":
        """Every tensor in another dtype."""
        return self.apply(lambda tensor: tensor.to(dtype))


def make_case(
    sizes: Sequence[int],
    dtype: torch.dtype = torch.float32,
    weight_dtype: torch.dtype = torch.float32,
    activation: str = "none",
    bias: bool = True,
    seed: int = 0,
    exact: bool = False,
) -> Case:
    """Random inputs; `exact` ones are multiples of 1/16 whose sums of products float32 represents exactly."""
    B, C, D, S = sizes
    generator = torch.Generator().manual_seed(seed)

    def draw(dtype: torch.dtype, *shape: int) -> Tensor:
        if exact:
            return (torch.randint(-16, 17, shape, generator=generator) / 16).to(dtype)
        return torch.randn(shape, generator=generator).to(dtype)

    # pre-activations of order one, where tanh and sigmoid bend
    weight = draw(torch.float32, C, D, S) * (1 if exact else 2 * max(D, S) ** -0.5)
    encoder_bias = draw(weight_dtype, C, D) if bias else None
    decoder_bias = draw(weight_dtype, C, S) if bias else None
    codes, maps = draw(dtype, B, C, D), draw(dtype, B, C, S)
    case = Case(codes, maps, weight.to(weight_dtype), encoder_bias, decoder_bias, activation)
    return case.apply(lambda tensor: tensor.to(DEVICE))


def randn(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 1) -> Tensor:
    """Normal numbers, the same on every device."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)


def activate(x: Tensor, activation: str) -> Tensor:
    return x if activation == "none" else getattr(torch, activation)(x)


def encode_arguments(case: Case) -> tuple[Tensor, Tensor, Tensor | None, str]:
    return case.maps, case.weight, case.encoder_bias, case.activation


def decode_arguments(case: Case) -> tuple[Tensor, Tensor, Tensor | None, str]:
    return case.codes, case.weight, case.decoder_bias, case.activation


def outer_arguments(case: Case) -> tuple[Tensor, Tensor, torch.dtype]:
    return case.codes, case.maps, case.weight.dtype


def reconstruct_arguments(case: Case) -> tuple[Tensor | str | bool | None, ...]:
    return case.codes, case.maps, case.weight, case.decoder_bias, case.activation, True, True, True


ARGUMENTS: dict[str, Callable[[Case], tuple[object, ...]]] = {
    "encode": encode_arguments,
    "decode": decode_arguments,
    "outer": outer_arguments,
    "reconstruct": reconstruct_arguments,
}


def _working(case: Case) -> Case:
    """One dtype for plain torch operators: the common one, or float32 for mixed dtypes."""
    return case if case.maps.dtype == case.weight.dtype else case.to(torch.float32)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    out = torch.einsum("bck,ckn->bcn", x, weight)
    return activate(out if bias is None else out + bias, activation)


def _slope(y: Tensor, activation: str) -> Tensor:
    slopes = {"none": torch.ones_like(y), "relu": (y > 0).to(y.dtype), "tanh": 1 - y * y, "sigmoid": y * (1 - y)}
    return slopes[activation]


def competitor(name: str, case: Case) -> tuple[Tensor, ...]:
    """What plain PyTorch operators give in the inputs' dtype (in float32, rounded, where they are mixed)."""
    dtype = case.maps.dtype
    codes, maps, weight, encoder_bias, decoder_bias, activation = _working(case)
    if name == "encode":
        return (_linear(maps, weight.transpose(1, 2), encoder_bias, activation).to(dtype),)
    if name == "decode":
        return (_linear(codes, weight, decoder_bias, activation).to(dtype),)
    if name == "outer":
        return (torch.einsum("bcd,bcs->cds", codes, maps).to(case.weight.dtype),)
    y = _linear(codes, weight, decoder_bias, activation)
    residual = y - maps
    error = residual * _slope(y, activation)
    loss = residual.float().square().sum((1, 2))
    return loss, error.to(dtype), residual.to(dtype), _codes_gradient(case)


def _codes_gradient(case: Case) -> Tensor:
    """Float32 whatever the inputs: the kernels leave the rounding to whoever has scaled it."""
    codes, maps, weight, _, bias, activation = case.to(torch.float32)
    y = _linear(codes, weight, bias, activation)
    return torch.einsum("bcs,cds->bcd", (y - maps) * _slope(y, activation), weight)


def run(backend: object, name: str, case: Case) -> tuple[Tensor, ...]:
    """One kernel of a backend, its results always a tuple."""
    result = getattr(backend, name)(*ARGUMENTS[name](case))
    return (result,) if isinstance(result, Tensor) else tuple(result)


def truth(name: str, case: Case) -> tuple[Tensor, ...]:
    """The specification in float64 on the same, already rounded inputs."""
    return run(reference, name, case.to(torch.float64))


def magnitudes(name: str, case: Case) -> tuple[Tensor, ...]:
    """The sums of absolute values behind every result: what float32 rounding errors are proportional to."""
    case = case.to(torch.float64)
    codes, maps, weight, encoder_bias, decoder_bias, _ = case.apply(torch.abs)
    if name == "encode":
        return (_linear(maps, weight.transpose(1, 2), encoder_bias, "none"),)
    if name == "decode":
        return (_linear(codes, weight, decoder_bias, "none"),)
    if name == "outer":
        return (torch.einsum("bcd,bcs->cds", codes, maps),)
    _, _, residual, _ = truth(name, case)
    residual_size = _linear(codes, weight, decoder_bias, "none") + maps
    # the slope is at most 1 and changes at most 2 for a change of 1 of y
    error_size = (1 + 2 * residual.abs()) * residual_size
    loss = (2 * residual.abs() * residual_size).sum((1, 2))
    return loss, error_size, residual_size, torch.einsum("bcs,cds->bcd", error_size, weight)


def assert_within_budget(actual: Tensor, rival: Tensor, exact: Tensor, magnitude: Tensor) -> None:
    """The error is at most twice PyTorch's in the same dtype, plus 4 float32 roundings of the sums' magnitudes."""
    assert actual.shape == exact.shape
    assert actual.dtype == rival.dtype
    assert not actual.isnan().any()
    error, budget = (actual.double() - exact).norm(), 2 * (rival.double() - exact).norm()
    band = 4 * EPS32 * magnitude.norm()
    assert error <= budget + band, f"error {error:.3e}, twice PyTorch's {budget:.3e}, band {band:.3e}"


def check_kernel(backend: object, name: str, case: Case) -> None:
    """One kernel of a backend against float64, within the budget."""
    results = zip(
        run(backend, name, case), competitor(name, case), truth(name, case), magnitudes(name, case), strict=True
    )
    for actual, rival, exact, magnitude in results:
        assert actual.is_contiguous()
        assert_within_budget(actual, rival, exact, magnitude)


def encode_loop(maps: Tensor, linears: Sequence[nn.Linear], activation: str | None = None) -> Tensor:
    """The naive loop: an nn.Linear a map, the codes concatenated."""
    codes = [
        activate(layer(x), activation or "none") for layer, x in zip(linears, maps.flatten(2).unbind(1), strict=True)
    ]
    return torch.cat(codes, 1)


def decode_loop(codes: Tensor, linears: Sequence[nn.Linear], activation: str | None = None) -> Tensor:
    """The naive loop back: (B, C*D) codes to (B, C, S) maps."""
    parts = codes.chunk(len(linears), 1)
    return torch.stack([activate(layer(z), activation or "none") for layer, z in zip(linears, parts, strict=True)], 1)


def encode_double_loop(maps: Tensor, weight: Tensor, bias: Tensor, activation: str) -> Tensor:
    """`spf_flatten` as a loop of float64 matrix products, for inputs of any dtype; differentiable."""
    parts = [activate(x.double() @ w.double().T + b.double(), activation) for x, w, b in _per_map(maps, weight, bias)]
    return torch.cat(parts, 1)


def decode_double_loop(codes: Tensor, weight: Tensor, bias: Tensor, activation: str) -> Tensor:
    """`spf_reconstruct` of (B, C, D) codes as a loop of float64 matrix products; differentiable."""
    parts = [activate(z.double() @ w.double() + b.double(), activation) for z, w, b in _per_map(codes, weight, bias)]
    return torch.stack(parts, 1)


def _per_map(x: Tensor, weight: Tensor, bias: Tensor) -> "zip[tuple[Tensor, Tensor, Tensor]]":
    return zip(x.flatten(2).unbind(1), weight.unbind(0), bias.unbind(0), strict=True)
