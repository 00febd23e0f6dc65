"""The functions behind the modules: argument checks, autocast, shapes.

Letters: B batch, C maps, H x W the map size, S = H * W pixels, D code size. Low precision: the maps (or codes) may be
float32, bfloat16 or float16 and the weights float32 or of the same or lower precision; sums are in float32 and the
result has the dtype of the maps (codes). Under autocast only the maps (codes) are cast; the weights are read as they
are, since casting them would cost more than the operator.

grad_mode: "dense" is the gradient as PyTorch knows it; with "factored" the backward leaves a
`spf_kernels.FactoredGrad` in `weight.grad`, which holds the two factors of the gradient instead. A weight that is no
leaf, computed from others, gets the dense gradient, and so does a backward with `create_graph=True`. The factors are
the maps, codes and their gradients themselves: they stay in memory as long as the gradient does, and must not change in
place until then. Under torch.compile they are copies.
"""

import torch
from torch import Tensor

from spf_kernels import (
    autograd,  # noqa: F401 (registers the derivatives)
    ops,
)
from spf_kernels.backends.reference import ACTIVATIONS
from spf_kernels.counters import count

REDUCTIONS = ("mean", "sum", "none")
GRAD_MODES = ("dense", "factored")
_LOW = (torch.bfloat16, torch.float16)


def check_activation(activation: str | None) -> str:
    """The activation's name ("none" for None).

    Raises:
        ValueError: An unknown activation.
    """
    name = "none" if activation is None else activation
    if name not in ACTIVATIONS:
        raise ValueError(f"activation must be None or one of {ACTIVATIONS}, got {activation!r}")
    return name


def check_grad_mode(grad_mode: str) -> str:
    """The mode.

    Raises:
        ValueError: An unknown mode.
    """
    if grad_mode not in GRAD_MODES:
        raise ValueError(f"grad_mode must be one of {GRAD_MODES}, got {grad_mode!r}")
    return grad_mode


def _operator_grad_mode(grad_mode: str, weight: Tensor) -> str:
    """What the operators are told: see `autograd`."""
    # the gradient of a computed weight goes on through other formulas, which need all of it
    if check_grad_mode(grad_mode) == "dense" or not weight.is_leaf:
        return "dense"
    return "sink" if torch.compiler.is_compiling() else "factored"


def _check_known(name: str, value: Tensor) -> None:
    if value.dtype not in (torch.float32, torch.float64, *_LOW):
        raise TypeError(f"{name} must be float32, float64, bfloat16 or float16, got {value.dtype}")


def _check_dtypes(name: str, value: Tensor, **parameters: Tensor | None) -> None:
    """Dtypes that the kernels define: one dtype, or float32 together with one low precision."""
    _check_known(name, value)
    for parameter, tensor in parameters.items():
        if tensor is None:
            continue
        _check_known(parameter, tensor)
        pair = {value.dtype, tensor.dtype}
        if len(pair) > 1 and (torch.float64 in pair or torch.float32 not in pair):
            raise TypeError(
                f"{parameter} must have the dtype of {name} ({value.dtype}) or one of them must be float32, "
                f"got {tensor.dtype}"
            )


def _check_devices(name: str, value: Tensor, **parameters: Tensor | None) -> None:
    for parameter, tensor in parameters.items():
        if tensor is not None and tensor.device != value.device:
            raise ValueError(f"{parameter} must be on the device of {name} ({value.device}), got {tensor.device}")


def _check_weight(weight: Tensor) -> None:
    if weight.dim() != 3:
        raise ValueError(f"weight must have shape (maps, code size, pixels), got {tuple(weight.shape)}")


def _check_bias(bias: Tensor | None, shape: tuple[int, int], weight: Tensor) -> None:
    if bias is None:
        return
    if bias.dim() != 2 or bias.shape[0] != shape[0] or bias.shape[1] != shape[1]:
        raise ValueError(f"bias must have shape {tuple(shape)}, got {tuple(bias.shape)}")
    if bias.dtype != weight.dtype:
        raise TypeError(f"bias must have the weight's dtype {weight.dtype}, got {bias.dtype}")


def _flatten_maps(maps: Tensor, weight: Tensor) -> Tensor:
    """(B, C, H, W) or (B, C, S) -> (B, C, S), a view where the pixels of a map are contiguous."""
    if maps.dim() not in (3, 4):
        raise ValueError(f"maps must have shape (batch, maps, height, width), got {tuple(maps.shape)}")
    C, S = weight.shape[0], weight.shape[2]
    if maps.shape[1] != C:
        raise ValueError(f"maps must have {C} channels (one a row of weight), got {maps.shape[1]}")
    pixels = maps.shape[2] if maps.dim() == 3 else maps.shape[2] * maps.shape[3]
    if pixels != S:
        raise ValueError(f"maps must have {S} pixels, got {pixels} (shape {tuple(maps.shape)})")
    if not torch.compiler.is_compiling() and maps.numel():
        height, width = maps.shape[2], maps.shape[-1]
        if maps.dim() == 4 and height > 1 and width > 1 and maps.stride(2) != width * maps.stride(3):
            count("maps copied: rows apart")
        elif maps.stride(-1 if width > 1 else 2) != 1 and pixels > 1:
            count(f"maps copied: pixel stride {maps.stride(-1 if width > 1 else 2)}")
            maps = maps.contiguous()
    return maps.flatten(2)


def prepare_maps(maps: Tensor, weight: Tensor) -> Tensor:
    """Maps as the kernels read them, so that several of the functions below share one copy and one cast.

    Args:
        maps: (B, C, H, W) or (B, C, S).
        weight: (C, D, S).

    Returns:
        (B, C, S): a view where the pixels of a map are contiguous, else a copy, which is counted; of autocast's dtype
        under autocast.

    Raises:
        ValueError: Shapes that do not fit.
        TypeError: A dtype that the kernels do not take.
    """
    _check_weight(weight)
    return _autocast("maps", _flatten_maps(maps, weight))


def _split_codes(codes: Tensor, weight: Tensor) -> Tensor:
    """(B, C*D) or (B, C, D) -> (B, C, D), a view."""
    C, D = weight.shape[0], weight.shape[1]
    if codes.dim() == 2:
        if codes.shape[1] != C * D:
            raise ValueError(f"codes must have {C * D} = {C} x {D} elements a sample, got {codes.shape[1]}")
        split: Tensor = codes.unflatten(1, (C, D))
        return split
    if codes.dim() != 3 or codes.shape[1] != C or codes.shape[2] != D:
        raise ValueError(f"codes must have shape (batch, {C * D}) or (batch, {C}, {D}), got {tuple(codes.shape)}")
    return codes


def _autocast(name: str, value: Tensor) -> Tensor:
    _check_known(name, value)
    device = value.device.type
    # meta tensors and the like have no autocast
    if device not in ("cpu", "cuda", "xpu", "mps") or not torch.is_autocast_enabled(device):
        return value
    return value if value.dtype == torch.float64 else value.to(torch.get_autocast_dtype(device))


def spf_flatten(
    maps: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    *,
    grad_mode: str = "dense",
) -> Tensor:
    """Encodes each feature map by its own encoder and concatenates the codes (SPF paper, section 2.1).

    Args:
        maps: (B, C, H, W) or (B, C, S). Read in place where the pixels of a map are contiguous, whatever the strides
            of batch and channels; other layouts are copied once (`spf_kernels.counters`).
        weight: (C, D, S).
        bias: (C, D), of the weight's dtype, or None.
        activation: None, "relu", "tanh" or "sigmoid".
        grad_mode: "dense" or "factored": how the weight's gradient is kept.

    Returns:
        (B, C*D), the codes of map 0 first; of the maps' dtype (of autocast's under autocast).

    Raises:
        ValueError: Shapes that do not fit, different devices, an unknown activation or grad_mode.
        TypeError: Dtypes that do not go together.
    """
    activation = check_activation(activation)
    mode = _operator_grad_mode(grad_mode, weight)
    maps = prepare_maps(maps, weight)
    _check_bias(bias, (weight.shape[0], weight.shape[1]), weight)
    _check_dtypes("maps", maps, weight=weight)
    _check_devices("maps", maps, weight=weight, bias=bias)
    codes: Tensor = ops.encode(maps, weight, bias, activation, mode)
    return codes.flatten(1)


def spf_reconstruct(
    codes: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    *,
    grad_mode: str = "dense",
) -> Tensor:
    """Decodes the codes back to maps: act(codes weight + bias).

    Args:
        codes: (B, C*D) or (B, C, D), any strides.
        weight: (C, D, S).
        bias: (C, S), of the weight's dtype, or None.
        activation: None, "relu", "tanh" or "sigmoid".
        grad_mode: "dense" or "factored": how the weight's gradient is kept.

    Returns:
        (B, C, S), of the codes' dtype (of autocast's under autocast).

    Raises:
        ValueError: Shapes that do not fit, different devices, an unknown activation or grad_mode.
        TypeError: Dtypes that do not go together.
    """
    activation = check_activation(activation)
    mode = _operator_grad_mode(grad_mode, weight)
    _check_weight(weight)
    _check_bias(bias, (weight.shape[0], weight.shape[2]), weight)
    codes = _autocast("codes", _split_codes(codes, weight))
    _check_dtypes("codes", codes, weight=weight)
    _check_devices("codes", codes, weight=weight, bias=bias)
    maps: Tensor = ops.decode(codes, weight, bias, activation, mode)
    return maps


def spf_reconstruction_loss(
    codes: Tensor,
    maps: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    reduction: str = "mean",
    detach_target: bool = True,
    *,
    grad_mode: str = "dense",
) -> Tensor:
    """The squared error of decoding `codes` against `maps`, without ever writing the decoded maps.

    Args:
        codes: (B, C*D) or (B, C, D), any strides.
        maps: (B, C, H, W) or (B, C, S), the target.
        weight: (C, D, S), the decoder's.
        bias: (C, S), of the weight's dtype, or None.
        activation: The decoder's: None, "relu", "tanh" or "sigmoid".
        reduction: "mean" over all pixels (as `torch.nn.functional.mse_loss`), "sum", or "none": one mean a sample,
            so that the mean of "none" is "mean".
        detach_target: Whether the target is a constant; False lets the maps learn to be easy to encode.
        grad_mode: "dense" or "factored": how the weight's gradient is kept.

    Returns:
        () or, for reduction "none", (B,); float32 (float64 for float64 codes).

    Raises:
        ValueError: Shapes that do not fit, different devices, an unknown activation, reduction or grad_mode.
        TypeError: Dtypes that do not go together.
    """
    activation = check_activation(activation)
    mode = _operator_grad_mode(grad_mode, weight)
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {REDUCTIONS}, got {reduction!r}")
    _check_weight(weight)
    _check_bias(bias, (weight.shape[0], weight.shape[2]), weight)
    maps = _flatten_maps(maps.detach() if detach_target else maps, weight)
    codes = _autocast("codes", _split_codes(codes, weight))
    if codes.shape[0] != maps.shape[0]:
        raise ValueError(f"codes must have the batch size of maps ({maps.shape[0]}), got {codes.shape[0]}")
    maps = _autocast("maps", maps)
    if maps.dtype != codes.dtype:
        raise TypeError(f"maps must have the dtype of codes ({codes.dtype}), got {maps.dtype}")
    _check_dtypes("codes", codes, weight=weight)
    _check_devices("codes", codes, maps=maps, weight=weight, bias=bias)
    loss: Tensor = ops.reconstruct(codes, maps, weight, bias, activation, False, False, False, mode)[0]
    if reduction == "sum":
        return loss.sum()
    loss = loss / (weight.shape[0] * weight.shape[2])
    return loss.mean() if reduction == "mean" else loss
