"""Rows on the disk: first the data, then the mark that they are there."""

import os
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from spf_data.image_cache.layout import IMAGES, SOURCES, STATUS, CacheKey, open_array

# Rows between two fsyncs: what a killed run has to read again.
_ROWS_A_COMMIT = 256


class CacheWriter:
    """Writes rows of a cache in any order; to be used in a `with` block, whose end commits unless there is an error.

    It writes with `pwrite`, not through a memory map, on which a full disk would be a signal and not an error.
    """

    def __init__(self, folder: Path, key: CacheKey) -> None:
        self._files: dict[str, int] = {}
        self._starts: dict[str, int] = {}
        for name, (shape, dtype) in key.shapes().items():
            # Checks the header; the data are the rest of the file.
            open_array(folder, name, key)
            length = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
            self._starts[name] = (folder / name).stat().st_size - length
            self._files[name] = os.open(folder / name, os.O_WRONLY)
        self._uncommitted: list[tuple[int, int]] = []

    def __enter__(self) -> "CacheWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.commit()
        finally:
            for descriptor in self._files.values():
                os.close(descriptor)

    def add(self, row: int, image: npt.NDArray[np.uint8] | None, source: tuple[int, int, int], status: int) -> None:
        """Write one row.

        Args:
            row: Which.
            image: uint8 (S, S); None leaves zeros.
            source: Height, width and bytes of the file.
            status: Its mark, which is not written before the next commit.

        Raises:
            OSError: If the disk is full.
        """
        if image is not None:
            self._write(IMAGES, row, image.tobytes())
            self._write(SOURCES, row, np.array(source, dtype=np.int64).tobytes())
        self._uncommitted.append((row, status))
        if len(self._uncommitted) >= _ROWS_A_COMMIT:
            self.commit()

    def commit(self) -> None:
        """Bring the rows to the disk, and then their marks."""
        for name in (IMAGES, SOURCES):
            os.fsync(self._files[name])
        for row, status in self._uncommitted:
            self._write(STATUS, row, bytes([status]))
        os.fsync(self._files[STATUS])
        self._uncommitted.clear()

    def _write(self, name: str, row: int, content: bytes) -> None:
        offset = self._starts[name] + row * len(content)
        written = 0
        while written < len(content):
            written += os.pwrite(self._files[name], content[written:], offset + written)
