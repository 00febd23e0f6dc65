"""The derivatives of the operators, registered at their Autograd key.

encode, decode and outer are closed under differentiation: the gradients of each are calls of the others, made through
their differentiable operators, so second derivatives need no code of their own. reconstruct has first derivatives
only and says so when asked for more.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from spf_kernels import ops

_aten = torch.ops.aten


def _below_autograd() -> Any:
    return torch._C._AutoDispatchBelowAutograd()


def _activation_gradient(gradient: Tensor, output: Tensor | None, activation: str) -> Tensor:
    """The gradient before the activation, from the activation's output."""
    if output is None:
        return gradient
    if activation == "relu":
        result: Tensor = _aten.threshold_backward(gradient, output, 0)
    elif activation == "tanh":
        result = _aten.tanh_backward(gradient, output)
    else:
        result = _aten.sigmoid_backward(gradient, output)
    return result


class _Encode(Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
        with _below_autograd():
            codes: Tensor = ops.encode(maps, weight, bias, activation)
        ctx.activation = activation
        ctx.bias_dtype = None if bias is None else bias.dtype
        ctx.save_for_backward(maps, weight, None if activation == "none" else codes)
        return codes

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        maps, weight, codes = ctx.saved_tensors
        gradient = _activation_gradient(gradients[0], codes, ctx.activation)
        for_maps, for_weight, for_bias, _ = ctx.needs_input_grad
        return (
            ops.decode(gradient, weight, None, "none") if for_maps else None,
            ops.outer(gradient, maps, weight.dtype) if for_weight else None,
            gradient.sum(0, dtype=ctx.bias_dtype) if for_bias else None,
            None,
        )


class _Decode(Function):
    @staticmethod
    def forward(ctx: Any, codes: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
        with _below_autograd():
            maps: Tensor = ops.decode(codes, weight, bias, activation)
        ctx.activation = activation
        ctx.bias_dtype = None if bias is None else bias.dtype
        ctx.save_for_backward(codes, weight, None if activation == "none" else maps)
        return maps

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        codes, weight, maps = ctx.saved_tensors
        gradient = _activation_gradient(gradients[0], maps, ctx.activation)
        for_codes, for_weight, for_bias, _ = ctx.needs_input_grad
        return (
            ops.encode(gradient, weight, None, "none") if for_codes else None,
            ops.outer(codes, gradient, weight.dtype) if for_weight else None,
            gradient.sum(0, dtype=ctx.bias_dtype) if for_bias else None,
            None,
        )


class _Outer(Function):
    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
        with _below_autograd():
            result: Tensor = ops.outer(left, right, dtype)
        ctx.save_for_backward(left, right)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        left, right = ctx.saved_tensors
        for_left, for_right, _ = ctx.needs_input_grad
        return (
            ops.encode(right, gradients[0], None, "none") if for_left else None,
            ops.decode(left, gradients[0], None, "none") if for_right else None,
            None,
        )


class _Reconstruct(Function):
    @staticmethod
    def forward(
        ctx: Any,
        codes: Tensor,
        maps: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        activation: str,
        with_error: bool,
        with_residual: bool,
        with_codes_gradient: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        for_codes, for_maps, for_weight, for_bias = ctx.needs_input_grad[:4]
        with_error = with_error or for_weight or for_bias
        # without an activation the error is the residual
        share = activation == "none" and with_error and not with_residual
        with _below_autograd():
            loss, error, residual, codes_gradient = ops.reconstruct(
                codes,
                maps,
                weight,
                bias,
                activation,
                with_error,
                with_residual or (for_maps and not share),
                with_codes_gradient or for_codes,
            )
        ctx.weight_dtype = weight.dtype
        ctx.bias_dtype = None if bias is None else bias.dtype
        ctx.save_for_backward(codes, error, error if share else residual, codes_gradient)
        ctx.mark_non_differentiable(error, residual, codes_gradient)
        return loss, error, residual, codes_gradient

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        codes, error, residual, codes_gradient = ctx.saved_tensors
        for_codes, for_maps, for_weight, for_bias = ctx.needs_input_grad[:4]
        # each sample's loss is a sum of squares; the scale stays in the loss's dtype, it is the same for many elements
        scale = (2 * gradients[0]).view(-1, 1, 1)
        return (
            (codes_gradient * scale).to(codes.dtype) if for_codes else None,
            (residual * -scale).to(residual.dtype) if for_maps else None,
            ops.outer(codes * scale, error, ctx.weight_dtype) if for_weight else None,
            ops.outer(scale.expand(-1, codes.shape[1], 1), error, ctx.bias_dtype).squeeze(1) if for_bias else None,
            *(None,) * 4,
        )


def _any_requires_grad(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def _encode(maps: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    if _any_requires_grad(maps, weight, bias):
        result: Tensor = _Encode.apply(maps, weight, bias, activation)
        return result
    with _below_autograd():
        result = ops.encode(maps, weight, bias, activation)
    return result


def _decode(codes: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    if _any_requires_grad(codes, weight, bias):
        result: Tensor = _Decode.apply(codes, weight, bias, activation)
        return result
    with _below_autograd():
        result = ops.decode(codes, weight, bias, activation)
    return result


def _outer(left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
    if _any_requires_grad(left, right):
        result: Tensor = _Outer.apply(left, right, dtype)
        return result
    with _below_autograd():
        result = ops.outer(left, right, dtype)
    return result


def _reconstruct(
    codes: Tensor, maps: Tensor, weight: Tensor, bias: Tensor | None, *options: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if _any_requires_grad(codes, maps, weight, bias):
        result: tuple[Tensor, Tensor, Tensor, Tensor] = _Reconstruct.apply(codes, maps, weight, bias, *options)
        return result
    with _below_autograd():
        result = ops.reconstruct(codes, maps, weight, bias, *options)
    return result


ops.library.impl("encode", _encode, "Autograd")
ops.library.impl("decode", _decode, "Autograd")
ops.library.impl("outer", _outer, "Autograd")
ops.library.impl("reconstruct", _reconstruct, "Autograd")
