"""Boxes (x, y, width, height) as shares of an image's side, x and y of the upper left corner."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def mirrored_lungs(lungs: Tensor) -> Tensor:
    """The boxes (N, 2, 4) of right and left lung in the horizontally flipped images; NaN stays NaN."""
    x, y, width, height = lungs.flip(1).unbind(2)
    return torch.stack([1 - x - width, y, width, height], dim=2)


def box_mask(boxes: npt.NDArray[np.floating], size: int) -> npt.NDArray[np.bool_]:
    """The pixels whose centre lies in any of some boxes.

    Args:
        boxes: (M, 4), (x, y, width, height) as shares of the image's side; a box with NaN is empty.
        size: S, height and width of the image.

    Returns:
        bool (S, S).

    Raises:
        ValueError: If the boxes have another shape.
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes must be (M, 4), got {boxes.shape}")
    centres = (np.arange(size) + 0.5) / size
    mask = np.zeros((size, size), dtype=bool)
    for x, y, width, height in boxes.tolist():
        rows, columns = (centres >= y) & (centres < y + height), (centres >= x) & (centres < x + width)
        mask |= rows[:, None] & columns
    return mask
