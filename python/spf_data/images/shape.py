"""From any shape to the square that the networks take."""

import numpy as np
import numpy.typing as npt
from PIL import Image


def square(image: npt.NDArray[np.float32], size: int) -> npt.NDArray[np.uint8]:
    """Pad with black to a centred square, then resize with Lanczos' filter, which does not alias.

    A pixel (x, y) comes to ((x + pad_x) * scale, (y + pad_y) * scale), as in the cxr-zones data.

    Args:
        image: float32 (H, W) in [0, 1].
        size: Pixels a side of the result.

    Returns:
        uint8 (size, size): 255 times the values, rounded.

    Raises:
        TypeError: If `image` is not float32.
        ValueError: If `image` is not two-dimensional, empty or outside [0, 1], or `size` is not positive.
    """
    if image.dtype != np.float32:
        raise TypeError(f"image must be float32, got {image.dtype}")
    if image.ndim != 2 or image.size == 0:
        raise ValueError(f"image must be (H, W) and not empty, got {image.shape}")
    # Written so that NaN is refused as well.
    if not (image.min() >= 0 and image.max() <= 1):
        raise ValueError(f"image must be within [0, 1], got {image.min()} to {image.max()}")
    if size < 1:
        raise ValueError(f"size must be positive, got {size}")
    height, width = image.shape
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    padded = np.zeros((side, side), dtype=np.float32)
    padded[top : top + height, left : left + width] = image
    resized = np.asarray(Image.fromarray(padded).resize((size, size), Image.Resampling.LANCZOS))
    # The filter overshoots at edges.
    levels: npt.NDArray[np.uint8] = np.rint(resized.clip(0, 1) * 255).astype(np.uint8)
    return levels
