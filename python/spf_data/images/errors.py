"""Why a file is not used, in words that can be counted."""

from pathlib import Path
from typing import Literal

Reason = Literal[
    "missing file",
    "not a file",
    "unreadable file",
    "empty file",
    "zero bytes",
    "unknown format",
    "too large",
    "truncated image",
    "unreadable image",
    "wrong bit depth",
    "palette image",
    "transparent image",
    "colour image",
    "several frames",
    "blank image",
    "no pixels",
    "not a radiograph",
    "not for presentation",
    "not a chest",
    "not frontal",
    "unsupported transfer syntax",
    "no decoder",
    "unusable lookup table",
]

# A chest radiograph has about 18 million pixels of 2 bytes.
MAX_PIXELS = 50_000_000
MAX_BYTES = 500_000_000


class ImageError(ValueError):
    """A file that can not be used. Its message holds the path as it was given and no text out of the file.

    Attributes:
        reason: Short and the same for all such files, so that it can be counted.
    """

    def __init__(self, reason: Reason, path: Path | str, detail: str = "") -> None:
        # All arguments go to the base, which keeps them when the error travels between processes.
        super().__init__(reason, path, detail)
        self.reason = reason
        self._path = path
        self._detail = detail

    def __str__(self) -> str:
        return f"{self._path}: {self.reason}" + (f" ({self._detail})" if self._detail else "")


def check_size(rows: int, columns: int, path: Path) -> None:
    """Refuse a decompression bomb before it is decoded.

    Raises:
        ImageError: If there are more than `MAX_PIXELS` pixels.
    """
    if rows * columns > MAX_PIXELS:
        raise ImageError("too large", path, f"{columns}x{rows} pixels, at most {MAX_PIXELS:,}")
