"""The kernels in eager PyTorch: the specification of every other backend, on any device, float64 included.

Letters: B batch, C maps, D code size, S pixels of a map. Half precision is computed in float32 and rounded once at
the end; mixed dtypes are computed in the wider one.
"""

import torch
from torch import Tensor

NAME = "reference"
ACTIVATIONS = ("none", "relu", "tanh", "sigmoid")


def unsupported(device: torch.device, *dtypes: torch.dtype) -> str | None:
    """Why this backend cannot take these arguments; None where it can."""
    return None


def _working_dtype(*tensors: Tensor) -> torch.dtype:
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def _activate(x: Tensor, activation: str) -> Tensor:
    return x if activation == "none" else getattr(torch, activation)(x)


def _slope(y: Tensor, activation: str) -> Tensor:
    """The activation's derivative, from its output."""
    if activation == "relu":
        return (y > 0).to(y.dtype)
    if activation == "tanh":
        return 1 - y * y
    if activation == "sigmoid":
        return y * (1 - y)
    return torch.ones_like(y)


def _contract(a: Tensor, w: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """(B, C, K) times (C, K, N) plus (C, N) -> (B, C, N), contiguous."""
    out = torch.bmm(a.to(dtype).transpose(0, 1), w.to(dtype))
    if bias is not None:
        out = out + bias.to(dtype).unsqueeze(1)
    return out.transpose(0, 1).contiguous()


def encode(maps: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    """Codes of maps: act(weight maps + bias).

    Args:
        maps: (B, C, S), any strides.
        weight: (C, D, S).
        bias: (C, D) or None.
        activation: One of `ACTIVATIONS`.

    Returns:
        (B, C, D), contiguous, of the maps' dtype.
    """
    dtype = _working_dtype(maps, weight)
    return _activate(_contract(maps, weight.transpose(1, 2), bias, dtype), activation).to(maps.dtype)


def decode(codes: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    """Maps from codes: act(codes weight + bias).

    Args:
        codes: (B, C, D), any strides.
        weight: (C, D, S).
        bias: (C, S) or None.
        activation: One of `ACTIVATIONS`.

    Returns:
        (B, C, S), contiguous, of the codes' dtype.
    """
    dtype = _working_dtype(codes, weight)
    return _activate(_contract(codes, weight, bias, dtype), activation).to(codes.dtype)


def outer(left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
    """The sum over the batch of outer products: every dense weight gradient.

    Args:
        left: (B, C, D), any strides.
        right: (B, C, S), any strides.
        dtype: Of the result.

    Returns:
        (C, D, S), contiguous.
    """
    working = _working_dtype(left, right)
    return torch.bmm(left.to(working).permute(1, 2, 0), right.to(working).transpose(0, 1)).to(dtype).contiguous()


def reconstruct(
    codes: Tensor,
    maps: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str,
    with_error: bool,
    with_residual: bool,
    with_codes_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The reconstruction loss of each sample and what its gradients are made of.

    With y = decode(codes): the loss is the sum of (y - maps)^2, so its gradients are 2 times the upstream gradient
    times what is returned here.

    Args:
        codes: (B, C, D), any strides.
        maps: (B, C, S), the target, any strides, of the codes' dtype.
        weight: (C, D, S).
        bias: (C, S) or None.
        activation: One of `ACTIVATIONS`.
        with_error: Whether to return the error.
        with_residual: Whether to return the residual.
        with_codes_gradient: Whether to return the codes' gradient.

    Returns:
        loss (B,), float64 for float64 codes, else float32;
        error (y - maps) act'(y), (B, C, S), of the maps' dtype;
        residual y - maps, (B, C, S), of the maps' dtype;
        codes' gradient sum over s of error weight, (B, C, D), of the loss's dtype: it is rounded after it is scaled.
        What was not asked for is empty.
    """
    dtype = _working_dtype(codes, weight)
    y = _activate(_contract(codes, weight, bias, dtype), activation)
    residual = y - maps.to(dtype)
    error = residual * _slope(y, activation)
    nothing = maps.new_empty(0)
    return (
        residual.square().sum((1, 2)),
        error.to(maps.dtype) if with_error else nothing,
        residual.to(maps.dtype) if with_residual else nothing.clone(),
        _contract(error, weight.transpose(1, 2), None, dtype)
        if with_codes_gradient
        else codes.new_empty(0, dtype=dtype),
    )
