"""Encoders of upsampled maps as encoders of the maps themselves: W (U x) = (W U) x.

U is the bilinear interpolation of maps x (h, w) to (H, W), as `torch.nn.functional.interpolate` does it. It is linear
and takes the axes one after the other, U = A (x) B with A (H, h) and B (W, w), so that W U needs no matrix over pixels.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import is_autocast_available
from torch.autograd import Function

from spf_kernels.sizes import check_map_size


def fold_upsampling(
    weight: Tensor,
    map_size: int | Sequence[int],
    upsampled_size: int | Sequence[int],
    align_corners: bool = False,
) -> Tensor:
    """The weight that gives maps the codes which `weight` gives the upsampled maps.

        folded = fold_upsampling(weight, map_size, upsampled_size)
        spf_flatten(maps, folded, bias, activation)  # the same codes, and gradient of the maps, as
        spf_flatten(interpolate(maps, size=upsampled_size, mode="bilinear"), weight, bias, activation)

    Differentiable any number of times: the gradient of `weight` is the folded weight's, upsampled. Computed map by map:
    beside the result, memory for a few maps' weights.

    Args:
        weight: (C, D, H*W), an encoder's. Low precision is summed in float32 and rounded once.
        map_size: (h, w) of the maps before upsampling, one integer for square maps.
        upsampled_size: (H, W), of any proportion to (h, w).
        align_corners: As `interpolate` takes it, whose default is False as well. With a scale factor instead of a size,
            `interpolate` must be called with `recompute_scale_factor=True` to compute the same.

    Returns:
        (C, D, h*w), of the weight's dtype.

    Raises:
        ValueError: A weight that is not (C, D, H*W), a size below 1.
        TypeError: A weight that is not floating point.
    """
    small, large = check_map_size(map_size), check_map_size(upsampled_size, "upsampled_size")
    if weight.dim() != 3 or weight.shape[2] != large[0] * large[1]:
        raise ValueError(
            f"weight must have shape (maps, code size, {large[0] * large[1]} = {large[0]} x {large[1]} pixels), "
            f"got {tuple(weight.shape)}"
        )
    if not weight.dtype.is_floating_point:
        raise TypeError(f"weight must be floating point, got {weight.dtype}")
    vertical, horizontal = _interpolation(small, large, align_corners, weight)
    folded: Tensor = _BothAxes.apply(weight.unflatten(2, large), vertical.T, horizontal)
    return folded.flatten(2)


def upsampled_mse_loss(
    decoded: Tensor, maps: Tensor, upsampled_size: int | Sequence[int], align_corners: bool = False
) -> Tensor:
    """The mean squared error of upsampled maps, from the maps: `mse_loss(interpolate(decoded), interpolate(maps))`.

    It is the quadratic form of U^T U, which takes the axes one after the other as U does, in the error of the maps.

    Args:
        decoded: (B, C, h, w), such as `SPFAutoencoder.reconstruct` returns.
        maps: (B, C, h, w), the target; detach it for a constant one.
        upsampled_size: (H, W).
        align_corners: As `interpolate` takes it.

    Returns:
        (), float32 (float64 where decoded is).

    Raises:
        ValueError: Maps that are not (B, C, h, w) or not alike, a size below 1.
        TypeError: Maps that are not floating point.
    """
    large = check_map_size(upsampled_size, "upsampled_size")
    if decoded.dim() != 4 or decoded.shape != maps.shape:
        raise ValueError(
            f"decoded and maps must have one shape (batch, maps, height, width), "
            f"got {tuple(decoded.shape)} and {tuple(maps.shape)}"
        )
    for name, value in (("decoded", decoded), ("maps", maps)):
        if not value.dtype.is_floating_point:
            raise TypeError(f"{name} must be floating point, got {value.dtype}")
    error = decoded.to(_sum_dtype(decoded)) - maps.to(_sum_dtype(decoded))
    B, C, H, W = error.shape
    vertical, horizontal = _interpolation((H, W), large, align_corners, error)
    with _no_autocast(error.device):
        weighted = (vertical.T @ vertical) @ error @ (horizontal.T @ horizontal)
    return (error * weighted).sum() / (B * C * large[0] * large[1])


def _sum_dtype(values: Tensor) -> torch.dtype:
    return torch.float64 if values.dtype == torch.float64 else torch.float32


def _interpolation(
    small: tuple[int, int], large: tuple[int, int], align_corners: bool, like: Tensor
) -> tuple[Tensor, Tensor]:
    """What `interpolate` does along each axis: (H, h) and (W, w)."""
    axes = []
    for before, after in zip(small, large, strict=True):
        unit = torch.eye(before, dtype=torch.float64, device="cpu").unsqueeze(1)
        columns = nn.functional.interpolate(unit, size=after, mode="linear", align_corners=align_corners)
        axes.append(columns.squeeze(1).T.to(like.device, _sum_dtype(like)))
    return axes[0], axes[1]


def _no_autocast(device: torch.device) -> AbstractContextManager[Any]:
    # meta tensors and the like have no autocast
    return torch.autocast(device.type, enabled=False) if is_autocast_available(device.type) else nullcontext()


class _BothAxes(Function):
    """left @ x[c, d] @ right for all c, d, one map at a time: as few temporaries in the backward as in the forward."""

    @staticmethod
    def forward(x: Tensor, left: Tensor, right: Tensor) -> Tensor:
        result = x.new_empty(*x.shape[:2], left.shape[0], right.shape[1])
        with _no_autocast(x.device):
            for of_map, folded in zip(x, result, strict=True):
                folded.copy_(left @ (of_map.to(left.dtype) @ right))
        return result

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        left, right = ctx.saved_tensors
        return _BothAxes.apply(gradients[0], left.T, right.T), None, None
