"""The torch operators `torch.ops.spf_kernels.*`: schemas, fakes and the implementation that calls a backend.

All take maps and codes as (B, C, S) and (B, C, D), of any strides, and return contiguous tensors. Their autograd
formulas are in `autograd`; argument checks for people are in `functional`.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from spf_kernels.selection import select

library = torch.library.Library("spf_kernels", "DEF")

library.define("encode(Tensor maps, Tensor weight, Tensor? bias, str activation) -> Tensor")
library.define("decode(Tensor codes, Tensor weight, Tensor? bias, str activation) -> Tensor")
library.define("outer(Tensor left, Tensor right, ScalarType dtype) -> Tensor")
library.define(
    "reconstruct(Tensor codes, Tensor maps, Tensor weight, Tensor? bias, str activation, bool with_error, "
    "bool with_residual, bool with_codes_gradient) -> (Tensor loss, Tensor error, Tensor residual, "
    "Tensor codes_gradient)"
)


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


def _describe(tensor: Tensor | None) -> str:
    return "none" if tensor is None else f"{tuple(tensor.shape)} {tensor.dtype} {tensor.device}"


def _encode(maps: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    _check_layer(maps, 2, weight, bias)
    with _no_autocast(maps.device):
        backend = select(maps.device, maps.dtype, weight.dtype)
        result: Tensor = backend.encode(maps, weight, bias, activation)
    return result


def _decode(codes: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
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


def _encode_fake(maps: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    return maps.new_empty(maps.shape[0], maps.shape[1], weight.shape[1])


def _decode_fake(codes: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
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
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    loss_dtype = torch.float64 if codes.dtype == torch.float64 else torch.float32
    return (
        codes.new_empty(codes.shape[0], dtype=loss_dtype),
        maps.new_empty(maps.shape) if with_error else maps.new_empty(0),
        maps.new_empty(maps.shape) if with_residual else maps.new_empty(0),
        codes.new_empty(codes.shape if with_codes_gradient else (0,), dtype=loss_dtype),
    )


_IMPLEMENTATIONS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "encode": (_encode, _encode_fake),
    "decode": (_decode, _decode_fake),
    "outer": (_outer, _outer_fake),
    "reconstruct": (_reconstruct, _reconstruct_fake),
}
for _name, (_implementation, _fake) in _IMPLEMENTATIONS.items():
    library.impl(_name, _implementation, "CompositeExplicitAutograd")
    torch.library.register_fake(f"spf_kernels::{_name}", _fake, lib=library)

encode = torch.ops.spf_kernels.encode.default
decode = torch.ops.spf_kernels.decode.default
outer = torch.ops.spf_kernels.outer.default
reconstruct = torch.ops.spf_kernels.reconstruct.default
