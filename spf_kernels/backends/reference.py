"""The kernels in eager PyTorch: the specification of every other backend, on any device, float64 included.

Letters: B batch, C maps, D code size, S pixels of a map. Half precision is computed in float32 and rounded once at
the end; mixed dtypes are computed in the wider one.
"""

import torch
from torch import Tensor

NAME = "reference"
_MASK = (1 << 32) - 1
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


def noise_bits(count: int, key: int, device: torch.device) -> Tensor:
    """32 random bits an element, the same in every backend: Wellons' hash "lowbias32" of index and key.

    Args:
        count: Of elements; only the lower 32 bits of their indices count.
        key: Below 2^32.
        device: Of the result.

    Returns:
        (count,), int64, each below 2^32.
    """
    x = (torch.arange(count, device=device) & _MASK) ^ key
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & _MASK
    # the factor less 2^32: the product then fits in 64 bits
    x = ((x ^ (x >> 15)) * (0x846CA68B - (1 << 32))) & _MASK
    return x ^ (x >> 16)


def _round_randomly(value: Tensor, noise: Tensor) -> Tensor:
    """float32 to bfloat16, away from zero with the probability of the part cut off: unbiased. NaN and infinity stay."""
    bits = value.view(torch.int32).to(torch.int64) & _MASK
    upper = torch.where(value.isnan(), bits, bits + noise) >> 16
    return upper.to(torch.uint16).view(torch.bfloat16)


def nadam_factored_(
    weight: Tensor, momentum: Tensor, variance: Tensor, left: Tensor, right: Tensor, *step: float
) -> None:
    """`nadam_dense_` with the gradient outer(left, right).

    Args:
        weight: (C, D, S).
        momentum: See `nadam_dense_`.
        variance: See `nadam_dense_`.
        left: (B, C, D), any strides.
        right: (B, C, S), any strides.
        step: What follows the gradient in `nadam_dense_`.
    """
    gradient = outer(left, right, _working_dtype(weight, left, right))
    nadam_dense_(weight, momentum, variance, gradient, *step)  # type: ignore[arg-type]


def nadam_dense_(
    weight: Tensor,
    momentum: Tensor,
    variance: Tensor,
    gradient: Tensor,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
    weight_factor: float,
    gradient_step: float,
    momentum_step: float,
    bias_correction2: float,
    maximize: bool,
    noise_key: int,
) -> None:
    """One step of NAdam (Dozat 2016), in place, as torch.optim.NAdam computes it.

    Args:
        weight: Any shape.
        momentum: The average of gradients, of the weight's shape.
        variance: The average of squared gradients, of the weight's shape and the momentum's dtype. Both are rounded to
            nearest, but bfloat16 stochastically: up with the probability of the part cut off.
        gradient: Of the weight's shape.
        beta1: What the momentum keeps of itself.
        beta2: What the variance keeps of itself.
        epsilon: Added to the root of the variance.
        weight_decay: Times the weight, added to the gradient.
        weight_factor: Times the weight, before its step: decoupled weight decay.
        gradient_step: The gradient's share of the step, lr (1 - mu) / (1 - product of mu).
        momentum_step: The momentum's share, lr mu' / (1 - product of mu times mu'), mu' that of the next step.
        bias_correction2: 1 - beta2^step.
        maximize: Whether to step along the gradient instead of against it.
        noise_key: Of the random bits of stochastic rounding, below 2^32; the upper 16 of `noise_bits` round the
            momentum, the lower 16 the variance.
    """
    dtype = _working_dtype(weight, gradient)
    w, g = weight.to(dtype), gradient.to(dtype)
    if maximize:
        g = -g
    if weight_decay != 0:
        g = g + weight_decay * w
    m, v = momentum.to(dtype).lerp(g, 1 - beta1), variance.to(dtype)
    # an overflown variance stays infinite: infinity minus infinity would be NaN
    v = torch.where(v == torch.inf, v, v.lerp(g * g, 1 - beta2))
    update = (gradient_step * g + momentum_step * m) / ((v / bias_correction2).sqrt() + epsilon)
    weight.copy_(w * weight_factor - update)
    if momentum.dtype == torch.bfloat16:
        noise = noise_bits(weight.numel(), noise_key, weight.device).view(weight.shape)
        m = _round_randomly(m.to(torch.float32), noise >> 16)
        v = _round_randomly(v.to(torch.float32), noise & 0xFFFF)
    momentum.copy_(m)
    variance.copy_(v)
