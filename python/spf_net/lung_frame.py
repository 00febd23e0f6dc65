"""The lung frame: maps resampled so that the box around both lungs fills them, wherever the lungs are in the image."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

FrameSource = Literal["image", "lungs", "predicted"]


@dataclass(frozen=True)
class FrameConfig:
    """Which part of the image fills the maps that the head sees.

    Attributes:
        source: "image": all of it. "lungs": the box around both lungs, as the data set has them. "predicted": the same
            box, as a regressor inside the network sees it, so that new images need no boxes.
        margin: Added to the box on every side, as a share of its width and height.
        regressor: predicted: the folder that `train_lungs.py` wrote; read when training starts, not when it resumes.
    """

    source: FrameSource = "image"
    margin: float = 0.05
    regressor: Path | None = None

    def __post_init__(self) -> None:
        if not (self.margin >= 0 and math.isfinite(self.margin)):
            raise ValueError(f"margin must be finite and not negative, got {self.margin}")


def resample(maps: Tensor, lungs: Tensor, margin: float) -> Tensor:
    """Resample maps so that the box around both lungs, with its margin, fills them.

    Bilinear, as `grid_sample` with `align_corners=False` and `padding_mode="border"`. The frame is parallel to the
    axes of the maps, so two products with matrices do the same: deterministic on every device, the backward too.

    Args:
        maps: (B, C, H, W), float.
        lungs: (B, 2, 4) boxes (x, y, width, height) as shares of the image's side, float. Where either is not known
            (NaN) the whole image is the frame, see `count_without_frame`.
        margin: Added on every side, as a share of the box's width and height.

    Returns:
        (B, C, H, W) in the dtype of the maps, contiguous, differentiable in the maps.

    Raises:
        ValueError: If the shapes do not fit together.
    """
    if maps.dim() != 4:
        raise ValueError(f"maps must be (B, C, H, W), got {tuple(maps.shape)}")
    if lungs.shape != (len(maps), 2, 4):
        raise ValueError(f"lungs must be ({len(maps)}, 2, 4), got {tuple(lungs.shape)}")
    # Positions are computed in float32 at least: bfloat16 would move them by a quarter of a map pixel.
    lungs = lungs.to(maps.device, torch.promote_types(maps.dtype, torch.float32))
    start, extent = _frame(lungs, margin)
    rows = _bilinear_weights(start[:, 1], extent[:, 1], maps.shape[2]).to(maps.dtype)
    columns = _bilinear_weights(start[:, 0], extent[:, 0], maps.shape[3]).to(maps.dtype)
    narrowed = (maps.flatten(1, 2) @ columns.transpose(1, 2)).view_as(maps)
    return rows[:, None] @ narrowed


def is_known(lungs: Tensor) -> Tensor:
    """Whether both lungs of an image have a box: (..., 2, 4) -> bool (...)."""
    return lungs.isfinite().all(dim=-1).all(dim=-1)


def count_without_frame(lungs: Tensor) -> int:
    """How many of the images with these boxes (N, 2, 4) get the whole image as their frame."""
    return int((~is_known(lungs)).sum())


def report_frames(lungs: Tensor, others: str) -> str:
    """How many images have no lung frame, in a line for people.

    Args:
        lungs: (N, 2, 4), of all images.
        others: The frames that need no boxes, for the error.

    Raises:
        ValueError: If no image has the boxes of both lungs.
    """
    images, without = len(lungs), count_without_frame(lungs)
    if without == images:
        raise ValueError(f"frame must be {others} for data without lung boxes ({images} images)")
    return f"lung frame: the whole image for {without} of {images} images, whose lung boxes are unknown"


def _frame(lungs: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """Upper left corner (B, 2) and size (B, 2) of the frame along x and y, as shares of the image's side."""
    lower = lungs[..., :2].amin(dim=1)
    upper = (lungs[..., :2] + lungs[..., 2:]).amax(dim=1)
    added = margin * (upper - lower)
    known = is_known(lungs)[:, None]
    start = torch.where(known, lower - added, torch.zeros_like(lower))
    extent = torch.where(known, upper - lower + 2 * added, torch.ones_like(lower))
    return start, extent


def _bilinear_weights(start: Tensor, extent: Tensor, pixels: int) -> Tensor:
    """Share of each old pixel in each new one along an axis, (B, new, old) from (B,) and (B,); rows sum to 1."""
    index = torch.arange(pixels, device=start.device, dtype=start.dtype)
    centres = start[:, None] * pixels + extent[:, None] * (index + 0.5) - 0.5
    # Beyond the border the border's pixel is repeated.
    distance = (centres.clamp(0, pixels - 1)[:, :, None] - index).abs()
    return (1 - distance).clamp(min=0)
