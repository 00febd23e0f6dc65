"""The derivatives of the operators, registered at their Autograd key.

encode, decode and outer are closed under differentiation: the gradients of each are calls of the others, made through
their differentiable operators, so second derivatives need no code of their own. reconstruct keeps its first
derivatives from the forward pass; asked for a differentiable backward, it is recomputed from decode. Forward-mode
differentiation and functorch's transforms raise PyTorch's own error.

grad_mode says what a backward does about the weight, unless it must be differentiable itself: "dense" returns the
gradient, "factored" a FactoredGrad, and "sink" (for torch.compile) what stands for one in a traced graph, see `sink`.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from spf_kernels import (
    factored_operators,  # noqa: F401 (registers what operators do with a FactoredGrad)
    ops,
    sink,  # noqa: F401 (registers what a compiled backward calls)
)
from spf_kernels.factors import factored_gradient

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


def _sum_of_batch(gradient: Tensor, dtype: torch.dtype) -> Tensor:
    working = torch.float64 if gradient.dtype == torch.float64 else torch.float32
    return gradient.sum(0, dtype=working).to(dtype)


def _weight_gradient(left: Tensor, right: Tensor, weight: Tensor, grad_mode: str) -> Tensor:
    if grad_mode == "dense" or torch.is_grad_enabled():
        gradient: Tensor = ops.outer(left, right, weight.dtype)
    elif grad_mode == "sink":
        gradient = ops.sink(left, right, weight)
    else:
        gradient = factored_gradient(left, right, weight)
    return gradient


class _Encode(Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, bias: Tensor | None, activation: str, grad_mode: str) -> Tensor:
        with _below_autograd():
            codes: Tensor = ops.encode(maps, weight, bias, activation)
        ctx.activation = activation
        ctx.bias_dtype = None if bias is None else bias.dtype
        ctx.grad_mode = grad_mode
        ctx.save_for_backward(maps, weight, None if activation == "none" else codes)
        return codes

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        maps, weight, codes = ctx.saved_tensors
        gradient = _activation_gradient(gradients[0], codes, ctx.activation)
        for_maps, for_weight, for_bias = ctx.needs_input_grad[:3]
        return (
            ops.decode(gradient, weight, None, "none") if for_maps else None,
            _weight_gradient(gradient, maps, weight, ctx.grad_mode) if for_weight else None,
            _sum_of_batch(gradient, ctx.bias_dtype) if for_bias else None,
            None,
            None,
        )


class _Decode(Function):
    @staticmethod
    def forward(
        ctx: Any, codes: Tensor, weight: Tensor, bias: Tensor | None, activation: str, grad_mode: str
    ) -> Tensor:
        with _below_autograd():
            maps: Tensor = ops.decode(codes, weight, bias, activation)
        ctx.activation = activation
        ctx.bias_dtype = None if bias is None else bias.dtype
        ctx.grad_mode = grad_mode
        ctx.save_for_backward(codes, weight, None if activation == "none" else maps)
        return maps

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        codes, weight, maps = ctx.saved_tensors
        gradient = _activation_gradient(gradients[0], maps, ctx.activation)
        for_codes, for_weight, for_bias = ctx.needs_input_grad[:3]
        return (
            ops.encode(gradient, weight, None, "none") if for_codes else None,
            _weight_gradient(codes, gradient, weight, ctx.grad_mode) if for_weight else None,
            _sum_of_batch(gradient, ctx.bias_dtype) if for_bias else None,
            None,
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


def _differentiable_gradients(
    inputs: tuple[Tensor | None, ...], needed: tuple[bool, ...], activation: str, gradient: Tensor
) -> tuple[Tensor | None, ...]:
    """The gradients of the loss with a graph of their own, from decode."""
    # aliases: where one input depends on another, the outer backward adds that path, so it must not be in here too
    inputs = tuple(None if tensor is None else tensor.view_as(tensor) for tensor in inputs)
    codes, maps, weight, bias = inputs
    residual = (ops.decode(codes, weight, bias, activation) - maps).to(gradient.dtype)
    wanted = [tensor for tensor, need in zip(inputs, needed, strict=True) if need and tensor is not None]
    found = iter(torch.autograd.grad(residual.square().sum((1, 2)), wanted, gradient, create_graph=True))
    return tuple(next(found) if need else None for need in needed)


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
        grad_mode: str,
        grad_enabled: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        # needs_input_grad knows nothing of no_grad, and in here gradients are always off
        for_codes, for_maps, for_weight, for_bias = (need and grad_enabled for need in ctx.needs_input_grad[:4])
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
        ctx.activation = activation
        ctx.grad_mode = grad_mode
        ctx.save_for_backward(codes, maps, weight, bias, error, error if share else residual, codes_gradient)
        ctx.mark_non_differentiable(error, residual, codes_gradient)
        # no zeros of the maps' size for the outputs without a gradient
        ctx.set_materialize_grads(False)
        return loss, error, residual, codes_gradient

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        codes, maps, weight, bias, error, residual, codes_gradient = ctx.saved_tensors
        needed = ctx.needs_input_grad[:4]
        if gradients[0] is None:
            return (None,) * 10
        if torch.is_grad_enabled():
            inputs = (codes, maps, weight, bias)
            return *_differentiable_gradients(inputs, needed, ctx.activation, gradients[0]), *(None,) * 6
        for_codes, for_maps, for_weight, for_bias = needed
        # each sample's loss is a sum of squares; the scale stays in the loss's dtype, it is the same for many elements
        scale = (2 * gradients[0]).view(-1, 1, 1)
        return (
            (codes_gradient * scale).to(codes.dtype) if for_codes else None,
            (residual * -scale).to(residual.dtype) if for_maps else None,
            _weight_gradient(codes * scale, error, weight, ctx.grad_mode) if for_weight else None,
            ops.outer(scale.expand(-1, codes.shape[1], 1), error, bias.dtype).squeeze(1) if for_bias else None,
            *(None,) * 6,
        )


# always through the Functions: where nothing needs a gradient they cost little, and a tangent of forward-mode
# differentiation would be lost without them
def _encode(maps: Tensor, weight: Tensor, bias: Tensor | None, activation: str, grad_mode: str = "dense") -> Tensor:
    result: Tensor = _Encode.apply(maps, weight, bias, activation, grad_mode)
    return result


def _decode(codes: Tensor, weight: Tensor, bias: Tensor | None, activation: str, grad_mode: str = "dense") -> Tensor:
    result: Tensor = _Decode.apply(codes, weight, bias, activation, grad_mode)
    return result


def _outer(left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
    result: Tensor = _Outer.apply(left, right, dtype)
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
    wanted = (with_error, with_residual, with_codes_gradient)
    result: tuple[Tensor, Tensor, Tensor, Tensor] = _Reconstruct.apply(
        codes, maps, weight, bias, activation, *wanted, grad_mode, torch.is_grad_enabled()
    )
    return result


ops.library.impl("encode", _encode, "Autograd")
ops.library.impl("decode", _decode, "Autograd")
ops.library.impl("outer", _outer, "Autograd")
ops.library.impl("reconstruct", _reconstruct, "Autograd")
