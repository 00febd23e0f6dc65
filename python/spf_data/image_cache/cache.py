"""A finished cache, as those who train read it."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spf_data.image_cache.layout import (
    FIRST_REASON,
    IMAGES,
    NOT_YET,
    READ,
    SOURCES,
    STATUS,
    check_key,
    key_of,
    open_array,
    read_key,
)
from spf_data.manifest import Manifest


class ImageCache:
    """The images of a manifest, row by row; nothing of them is held in memory.

    Attributes:
        folder: Where it is.
        image_size: S, pixels a side.
        images: uint8 (N, S, S), memory-mapped, read only; zeros where an image could not be read.
        sources: int64 (N, 3), memory-mapped: height, width and bytes of the file; zeros where it could not be read.
        readable: bool (N,): whether the row holds an image.
    """

    def __init__(self, folder: Path) -> None:
        """Open a cache.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If it is damaged, or not finished.
        """
        key, self._reasons = read_key(folder)
        self.folder, self.image_size = folder, key.image_size
        self.images = open_array(folder, IMAGES, key)
        self.sources = open_array(folder, SOURCES, key)
        self._status: npt.NDArray[np.uint8] = np.array(open_array(folder, STATUS, key))
        missing = int((self._status == NOT_YET).sum())
        if missing:
            raise ValueError(
                f"the cache {folder} is not finished: {missing:,} of {key.rows:,} images are to be read yet"
            )
        if self._status.max() >= FIRST_REASON + len(self._reasons):
            raise ValueError(f"{folder / STATUS} is damaged: it holds {self._status.max()}")
        self.readable: npt.NDArray[np.bool_] = self._status == READ

    def __len__(self) -> int:
        return len(self._status)

    def unreadable(self) -> list[tuple[int, str]]:
        """The rows without an image, and why: (row, reason), by row."""
        rows = np.flatnonzero(~self.readable)
        return [(int(row), self._reasons[self._status[row] - FIRST_REASON]) for row in rows]

    def unreadable_counts(self) -> dict[str, int]:
        """How many rows have no image, by reason, the most frequent first."""
        return dict(Counter(reason for _, reason in self.unreadable()).most_common())


class CachedImages:
    """Some rows of a cache in the form that `XrayDataset` takes: uint8 (M, 1, S, S), one image at a time."""

    def __init__(self, images: npt.NDArray[np.uint8], rows: npt.NDArray[np.int64]) -> None:
        """Take `rows` (M,) of `images` (N, S, S)."""
        self._images, self._rows = images, rows
        self.shape: tuple[int, ...] = (len(rows), 1, *images.shape[1:])
        self.dtype: np.dtype[Any] = images.dtype

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> npt.NDArray[np.uint8]:
        """A copy of one image: uint8 (1, S, S)."""
        return np.array(self._images[self._rows[index]])[None]


def open_cache(folder: Path, manifest: Manifest, image_size: int) -> ImageCache:
    """The finished cache of `manifest` in `folder`.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is that of another manifest, image size or reader, is damaged, or is not finished.
    """
    check_key(folder, key_of(manifest, image_size))
    return ImageCache(folder)
