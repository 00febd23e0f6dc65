"""PNG and JPEG."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from spf_data.images.errors import ImageError, Reason, check_size

PNG_START = b"\x89PNG\r\n\x1a\n"
JPEG_START = b"\xff\xd8\xff"

# The depths that X-ray detectors and DICOM know.
_DEPTHS = (8, 10, 12, 14, 16)
# Levels of 255 by which the channels of a grey image may differ once JPEG has rounded its chroma.
_CHROMA_NOISE = 16
# Colour types of a PNG header (PNG specification, section 11.2.1).
_GREY, _PALETTE = 0, 3


def read_picture(data: bytes, path: Path) -> npt.NDArray[np.float32]:
    """Decode a PNG or JPEG of one grey channel, or of colour channels that are all equal.

    8-bit values are divided by 255. A 16-bit PNG does not say how many bits its detector had, and a 12-bit image
    divided by 65535 would be nearly black, so values are divided by the smallest of 255, 1023, 4095, 16383 and 65535
    that none exceeds. What has more than 8 bits then always reaches a quarter of the range.

    The orientation in the EXIF data is applied. Alpha is ignored where every pixel is opaque.

    Args:
        data: The whole file.
        path: For messages.

    Returns:
        float32 (H, W) in [0, 1].

    Raises:
        ImageError: With the reason, see `Reason`.
    """
    reason: Reason
    with warnings.catch_warnings():
        # Pillow warns of large images and of damaged metadata; sizes are checked here, metadata are not used.
        warnings.simplefilter("ignore")
        try:
            return _decode(data, path)
        except ImageError:
            raise
        except Image.DecompressionBombError:
            reason = "too large"
        # Damage surfaces as anything from SyntaxError to struct.error.
        except Exception as error:
            reason = "truncated image" if "truncated" in str(error).lower() else "unreadable image"
    raise ImageError(reason, path)


def _decode(data: bytes, path: Path) -> npt.NDArray[np.float32]:
    if data.startswith(PNG_START):
        _check_png_header(data, path)
    with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "MPO")) as opened:
        check_size(opened.height, opened.width, path)
        if getattr(opened, "n_frames", 1) > 1:
            raise ImageError("several frames", path)
        if "transparency" in opened.info:
            raise ImageError("transparent image", path)
        if opened.mode == "CMYK":
            raise ImageError("colour image", path, "CMYK")
        levels = np.asarray(ImageOps.exif_transpose(opened))
    pixels: npt.NDArray[np.float32] = _one_channel(levels, path) / np.float32(_full_range(levels))
    return pixels.astype(np.float32)


def _check_png_header(data: bytes, path: Path) -> None:
    """Pillow would silently reduce what is refused here."""
    depth, colour = data[24:26]
    if colour == _PALETTE:
        raise ImageError("palette image", path)
    if depth < 8 or (depth == 16 and colour != _GREY):
        raise ImageError("wrong bit depth", path, f"{depth} bits, PNG colour type {colour}")


def _one_channel(levels: npt.NDArray[Any], path: Path) -> npt.NDArray[Any]:
    """(H, W) or (H, W, channels), the last perhaps alpha -> (H, W)."""
    if levels.ndim == 2:
        return levels
    if levels.shape[2] in (2, 4):
        if not np.all(levels[..., -1] == 255):
            raise ImageError("transparent image", path)
        levels = levels[..., :-1]
    spread = int(np.ptp(levels, axis=2).max())
    if spread > _CHROMA_NOISE:
        raise ImageError("colour image", path, f"channels differ by {spread} levels of 255")
    grey: npt.NDArray[Any] = levels.mean(axis=2)
    return grey


def _full_range(levels: npt.NDArray[Any]) -> int:
    if levels.dtype == np.uint8:
        return 255
    largest = int(levels.max())
    depth: int = min(depth for depth in _DEPTHS if largest < 2**depth)
    return int(2**depth - 1)
