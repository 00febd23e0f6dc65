"""Random flip, rotation and shift of a batch of images, with the labels and lung boxes that go with them."""

import math
from collections.abc import Sequence

import torch
from spf_data.boxes import mirrored_lungs
from torch import Tensor
from torch.nn import functional


def mirror(images: Tensor, labels: Tensor, lungs: Tensor, mirrored: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Flip images horizontally; what was on the patient's right is then on the left, so labels and lungs change sides.

    Args:
        images: (B, channels, H, W).
        labels: (B, L).
        lungs: (B, 2, 4) boxes (x, y, width, height) of right and left lung as shares of the image's side; NaN where not
            known.
        mirrored: `LabelSet.mirror`: for each of the L labels the index of its label on the other side.

    Returns:
        Images, labels and lungs of the same shapes.

    Raises:
        ValueError: If `mirrored` does not have L indices.
    """
    if labels.shape[1] != len(mirrored):
        raise ValueError(f"mirrored must have {labels.shape[1]} indices, one a label, got {len(mirrored)}")
    return images.flip(3), labels[:, list(mirrored)], mirrored_lungs(lungs)


def random_mirror(
    images: Tensor,
    labels: Tensor,
    lungs: Tensor,
    mirrored: Sequence[int],
    probability: float,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """`mirror` each image with a probability of its own draw; the others stay as they are.

    Args:
        images: (B, channels, H, W).
        labels: (B, L).
        lungs: (B, 2, 4), see `mirror`.
        mirrored: `LabelSet.mirror`.
        probability: Of a flip; 0 draws nothing.
        generator: Source of the decisions, on the CPU whatever the device of the images.

    Returns:
        Images, labels and lungs of the same shapes.
    """
    if probability == 0:
        return images, labels, lungs
    chosen = (torch.rand(len(images), generator=generator, dtype=torch.float64) < probability).to(images.device)
    flipped_images, flipped_labels, flipped_lungs = mirror(images, labels, lungs, mirrored)
    return (
        torch.where(chosen[:, None, None, None], flipped_images, images),
        torch.where(chosen[:, None], flipped_labels, labels),
        torch.where(chosen[:, None, None], flipped_lungs, lungs),
    )


def rotate_and_shift(
    images: Tensor, lungs: Tensor, rotation: float, shift: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Rotate and shift each image by amounts of its own, bilinearly; what comes in from outside repeats the border.

    Args:
        images: (B, channels, S, S) float.
        lungs: (B, 2, 4) boxes (x, y, width, height) as shares of the image's side; NaN where not known.
        rotation: Largest angle in degrees, either way.
        shift: Largest shift along each axis, as a share of the image's size, either way.
        generator: Source of the amounts, on the CPU whatever the device of the images.

    Returns:
        Images of the same shape, and the boxes around the moved boxes; both as they came where both amounts are 0.
    """
    if rotation == 0 and shift == 0:
        return images, lungs
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
    moved = functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return moved, _move_boxes(lungs, matrix)


def _move_boxes(boxes: Tensor, matrix: Tensor) -> Tensor:
    """The boxes (B, K, 4) around boxes whose pixels `grid_sample` moves; `matrix` (B, 2, 3) leads from new to old."""
    x, y, width, height = (boxes * 2).unbind(2)
    corners = torch.stack(
        [torch.stack([x + i * width - 1, y + j * height - 1], dim=2) for i in (0, 1) for j in (0, 1)], dim=2
    )
    # The inverse of a rotation is its transpose, which a row vector times the rotation applies.
    moved = (corners - matrix[:, None, None, :, 2]) @ matrix[:, None, :, :2]
    lower, upper = moved.amin(dim=2), moved.amax(dim=2)
    return torch.cat([lower + 1, upper - lower], dim=2) / 2
