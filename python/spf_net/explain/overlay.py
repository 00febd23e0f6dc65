"""Evidence drawn over the image it is about."""

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from spf_net.lung_frame import resample

# Okabe and Ito's vermilion and blue, told apart by colour-blind readers as well: for the label, against it.
_FOR, _AGAINST = np.array([213, 94, 0], np.float32), np.array([0, 114, 178], np.float32)
_OPACITY = 0.75
_MIN_SIDE = 512
_LINE = 18


def onto_image(maps: Tensor, lungs: Tensor, margin: float) -> Tensor:
    """Put evidence over maps in the lung frame back to where it is in the image.

    Each pixel's evidence is spread over the pixels that the frame took it from, in the same proportions (the transpose
    of `resample`), so that the sum of a map stays what it was.

    Args:
        maps: (B, K, H, W), over the pixels of the frame.
        lungs: (B, 2, 4), the boxes that made the frame, see `resample`.
        margin: Of the frame.

    Returns:
        (B, K, H, W), over the pixels of the whole image's maps.
    """
    with torch.enable_grad():
        whole = torch.zeros_like(maps, requires_grad=True)
        (moved,) = torch.autograd.grad(resample(whole, lungs, margin), whole, maps)
    return moved


def overlay(image: npt.NDArray[np.uint8], evidence: npt.NDArray[np.float32], caption: str) -> Image.Image:
    """Colour an image by evidence: orange speaks for the label, blue against it, nothing where there is none.

    The opacity is proportional to the evidence, full at the strongest pixel of this map, so two overlays can not be
    compared by colour.

    Args:
        image: uint8 (S, S).
        evidence: float32 (H, W), over map pixels; interpolated to the image's.
        caption: Lines of text below the picture.

    Returns:
        RGB, at least 512 pixels wide, without metadata.

    Raises:
        ValueError: If an array is not two-dimensional or the evidence is not finite.
    """
    if image.ndim != 2 or evidence.ndim != 2:
        raise ValueError(f"image and evidence must be (S, S) and (H, W), got {image.shape} and {evidence.shape}")
    if not np.isfinite(evidence).all():
        raise ValueError("evidence must be finite")
    side = max(_MIN_SIDE, len(image))
    grey = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32)
    strongest = float(np.abs(evidence).max())
    relative = evidence.astype(np.float32) / (strongest or 1.0)
    spread = np.asarray(Image.fromarray(relative).resize((side, side), Image.Resampling.BILINEAR))[..., None]
    colour = np.where(spread > 0, _FOR, _AGAINST)
    opacity = _OPACITY * np.abs(spread)
    blended = Image.fromarray(np.rint(grey[..., None] * (1 - opacity) + colour * opacity).astype(np.uint8))
    return _with_caption(blended, caption)


def _with_caption(picture: Image.Image, caption: str) -> Image.Image:
    lines = caption.splitlines()
    page = Image.new("RGB", (picture.width, picture.height + _LINE * len(lines) + 4), "white")
    page.paste(picture)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    for number, line in enumerate(lines):
        draw.text((4, picture.height + 2 + _LINE * number), line, fill="black", font=font)
    return page
