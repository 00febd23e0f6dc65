"""Random rotation and shift of a batch of images."""

import math

import torch
from torch import Tensor
from torch.nn import functional


def rotate_and_shift(images: Tensor, rotation: float, shift: float, generator: torch.Generator) -> Tensor:
    """Rotate and shift each image by amounts of its own, bilinearly; what comes in from outside repeats the border.

    There is no flip: it would put the patient's right side on the left while the labels stay.

    Args:
        images: (B, channels, H, W) float.
        rotation: Largest angle in degrees, either way.
        shift: Largest shift along each axis, as a share of the image's size, either way.
        generator: Source of the amounts, on the CPU whatever the device of the images.

    Returns:
        (B, channels, H, W); the images themselves where both amounts are 0.
    """
    if rotation == 0 and shift == 0:
        return images
    batch = images.shape[0]
    uniform = torch.rand(3, batch, generator=generator, dtype=torch.float64) * 2 - 1
    angle = uniform[0] * math.radians(rotation)
    # grid_sample's coordinates run from -1 to 1, so the whole size is 2.
    offset = uniform[1:] * shift * 2
    matrix = torch.stack(
        [
            torch.stack([angle.cos(), -angle.sin(), offset[0]], dim=1),
            torch.stack([angle.sin(), angle.cos(), offset[1]], dim=1),
        ],
        dim=1,
    ).to(images)
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
