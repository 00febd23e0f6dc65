"""The torch operators `torch.ops.spf_kernels.*`: schemas, fakes and the implementation that calls a backend.

All take maps and codes as (B, C, S) and (B, C, D), of any strides, and return contiguous tensors. Their autograd
formulas are in `autograd`; argument checks for people are in `functional`.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch._higher_order_ops.effects import _EffectType as EffectType
from torch._higher_order_ops.effects import _register_effectful_op

from spf_kernels.selection import select

library = torch.library.Library("spf_kernels", "DEF")

# grad_mode: what the backward does about the weight, see `autograd`
library.define("encode(Tensor maps, Tensor weight, Tensor? bias, str activation, str grad_mode='dense') -> Tensor")
library.define("decode(Tensor codes, Tensor weight, Tensor? bias, str activation, str grad_mode='dense') -> Tensor")
library.define("outer(Tensor left, Tensor right, ScalarType dtype) -> Tensor")
library.define(
    "reconstruct(Tensor codes, Tensor maps, Tensor weight, Tensor? bias, str activation, bool with_error, "
    "bool with_residual, bool with_codes_gradient, str grad_mode='dense') -> (Tensor loss, Tensor error, "
    "Tensor residual, Tensor codes_gradient)"
)
_NADAM_STEP = (
    "float beta1, float beta2, float epsilon, float weight_decay, float weight_factor, float gradient_step, "
    "float momentum_step, float bias_correction2, bool maximize, int noise_key"
)
library.define(
    "nadam_factored_(Tensor(a!) weight, Tensor(b!) momentum, Tensor(c!) variance, Tensor left, Tensor right, "
    f"{_NADAM_STEP}) -> ()"
)
library.define(
    f"nadam_dense_(Tensor(a!) weight, Tensor(b!) momentum, Tensor(c!) variance, Tensor gradient, {_NADAM_STEP}) -> ()"
)
# what stands for a factored gradient in a compiled graph; implemented in `sink`
library.define("sink(Tensor left, Tensor right, Tensor weight) -> Tensor", tags=[torch.Tag.cudagraph_unsafe])


def _no_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """The reference's own operators must not be cast again below an operator that decided its dtypes."""
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()


def _check_layer(x: Tensor, in_dim: int, weight: Tensor, bias: Tensor | None) -> None:
    """Last check before addresses are handed to a kernel; `functional` has said it better before."""
    out_dim = 3 - in_dim
    fits = (
        x.dim() == weight.dim() == 3
        and x.shape[1] == weight.shape[0]
        and x.shape[2] == weight.shape[in_dim]
        and x.device == weight.device
    )
    if fits and bias is not None:
        fits = bias.shape == (weight.shape[0], weight.shape[out_dim])
        fits = fits and bias.dtype == weight.dtype and bias.device == weight.device
    if not fits:
        raise ValueError(f"operands do not fit: {_describe(x)}, weight {_describe(weight)}, bias {_describe(bias)}")


def _check_pair(left: Tensor, right: Tensor) -> None:
    if left.dim() != 3 or right.dim() != 3 or left.shape[:2] != right.shape[:2] or left.device != right.device:
        raise ValueError(f"operands do not fit: {_describe(left)} and {_describe(right)}")


# the checks are the fakes too; `step` is all that follows in the schema
def _check_nadam_factored(
    weight: Tensor, momentum: Tensor, variance: Tensor, left: Tensor, right: Tensor, *step: float
) -> None:
    _check_pair(left, right)
    _check_nadam(weight, momentum, variance, (*left.shape[1:], right.shape[2]), left.device)


def _check_nadam_dense(weight: Tensor, momentum: Tensor, variance: Tensor, gradient: Tensor, *step: float) -> None:
    _check_nadam(weight, momentum, variance, tuple(gradient.shape), gradient.device)


def _check_nadam(
    weight: Tensor, momentum: Tensor, variance: Tensor, shape: tuple[int, ...], device: torch.device
) -> None:
    """`shape` and `device` are the gradient's."""
    fits = (
        weight.shape == momentum.shape == variance.shape == shape
        and momentum.dtype == variance.dtype
        and weight.device == momentum.device == variance.device == device
    )
    if not fits:
        raise ValueError(
            f"operands do not fit: weight {_describe(weight)}, momentum {_describe(momentum)}, variance "
            f"{_describe(variance)}, gradient {shape} {device}"
        )


def _describe(tensor: Tensor | None) -> str:
    return "none" if tensor is None else f"{tuple(tensor.shape)} {tensor.dtype} {tensor.device}"


def _encode(maps: Tensor, weight: Tensor, bias: Tensor | None, activation: str, grad_mode: str = "dense") -> Tensor:
    _check_layer(maps, 2, weight, bias)
    with _no_autocast(maps.device):
        backend = select(maps.device, maps.dtype, weight.dtype)
        result: Tensor = backend.encode(maps, weight, bias, activation)
    return result


def _decode(codes: Tensor, weight: Tensor, bias: Tensor | None, activation: str, grad_mode: str = "dense") -> Tensor:
    _check_layer(codes, 1, weight, bias)
    with _no_autocast(codes.device):
        backend = select(codes.device, codes.dtype, weight.dtype)
        result: Tensor = backend.decode(codes, weight, bias, activation)
    return result


def _outer(left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
    _check_pair(left, right)
    with _no_autocast(left.device):
        result: Tensor = select(left.device, left.dtype, right.dtype, dtype).outer(left, right, dtype)
    return result


def _reconstruct(
    codes: Tensor,
    maps: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str,
    with_error: bool,
    with_residual: bool,
    with_codes_gradient: bool,
    grad_mode: str = "dense",
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    _check_layer(codes, 1, weight, bias)
    _check_layer(maps, 2, weight, None)
    _check_pair(codes, maps)
    with _no_autocast(codes.device):
        backend = select(codes.device, codes.dtype, maps.dtype, weight.dtype)
        result: tuple[Tensor, Tensor, Tensor, Tensor] = backend.reconstruct(
            codes, maps, weight, bias, activation, with_error, with_residual, with_codes_gradient
        )
    return result


def _nadam_factored_(
    weight: Tensor, momentum: Tensor, variance: Tensor, left: Tensor, right: Tensor, *step: float
) -> None:
    _check_nadam_factored(weight, momentum, variance, left, right)
    with _no_autocast(weight.device):
        backend = select(weight.device, weight.dtype, momentum.dtype, left.dtype, right.dtype)
        backend.nadam_factored_(weight, momentum, variance, left, right, *step)
    _count_change(weight, momentum, variance)


def _nadam_dense_(weight: Tensor, momentum: Tensor, variance: Tensor, gradient: Tensor, *step: float) -> None:
    _check_nadam_dense(weight, momentum, variance, gradient)
    with _no_autocast(weight.device):
        backend = select(weight.device, weight.dtype, momentum.dtype, gradient.dtype)
        backend.nadam_dense_(weight, momentum, variance, gradient, *step)
    _count_change(weight, momentum, variance)


def _count_change(*tensors: Tensor) -> None:
    """Tells autograd, which may have saved the weight: a kernel that writes to addresses does not."""
    torch.autograd.graph.increment_version(tensors)


def _encode_fake(
    maps: Tensor, weight: Tensor, bias: Tensor | None, activation: str, grad_mode: str = "dense"
) -> Tensor:
    return maps.new_empty(maps.shape[0], maps.shape[1], weight.shape[1])


def _decode_fake(
    codes: Tensor, weight: Tensor, bias: Tensor | None, activation: str, grad_mode: str = "dense"
) -> Tensor:
    return codes.new_empty(codes.shape[0], codes.shape[1], weight.shape[2])


def _outer_fake(left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
    return left.new_empty(left.shape[1], left.shape[2], right.shape[2], dtype=dtype)


def _reconstruct_fake(
    codes: Tensor,
    maps: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str,
    with_error: bool,
    with_residual: bool,
    with_codes_gradient: bool,
    grad_mode: str = "dense",
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    loss_dtype = torch.float64 if codes.dtype == torch.float64 else torch.float32
    return (
        codes.new_empty(codes.shape[0], dtype=loss_dtype),
        maps.new_empty(maps.shape) if with_error else maps.new_empty(0),
        maps.new_empty(maps.shape) if with_residual else maps.new_empty(0),
        codes.new_empty(codes.shape if with_codes_gradient else (0,), dtype=loss_dtype),
    )


def sink_placeholder(left: Tensor, right: Tensor, weight: Tensor) -> Tensor:
    """A zero of the weight's shape, which takes no memory."""
    return weight.new_zeros(()).expand(weight.shape)


_IMPLEMENTATIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "encode": (_encode, _encode_fake),
    "decode": (_decode, _decode_fake),
    "outer": (_outer, _outer_fake),
    "reconstruct": (_reconstruct, _reconstruct_fake),
    "nadam_factored_": (_nadam_factored_, _check_nadam_factored),
    "nadam_dense_": (_nadam_dense_, _check_nadam_dense),
}
for _name, (_implementation, _fake) in _IMPLEMENTATIONS.items():
    library.impl(_name, _implementation, "CompositeExplicitAutograd")
    torch.library.register_fake(f"spf_kernels::{_name}", _fake, lib=library)
torch.library.register_fake("spf_kernels::sink", sink_placeholder, lib=library)

encode = torch.ops.spf_kernels.encode.default
decode = torch.ops.spf_kernels.decode.default
outer = torch.ops.spf_kernels.outer.default
reconstruct = torch.ops.spf_kernels.reconstruct.default
nadam_factored_ = torch.ops.spf_kernels.nadam_factored_.default
nadam_dense_ = torch.ops.spf_kernels.nadam_dense_.default
sink = torch.ops.spf_kernels.sink.default
# two calls are not one, even with the same arguments
_register_effectful_op(sink, EffectType.ORDERED)
