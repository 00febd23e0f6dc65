"""Fill a cache with worker processes; killed at any moment, the next call goes on."""

import errno
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from spf_data.image_cache.cache import ImageCache
from spf_data.image_cache.layout import (
    FIRST_REASON,
    KEY,
    NOT_YET,
    READ,
    SOURCES,
    STATUS,
    CacheKey,
    check_key,
    create,
    key_of,
    open_array,
    read_key,
)
from spf_data.image_cache.lock import locked
from spf_data.image_cache.writing import CacheWriter
from spf_data.images import ImageError, read_image, square
from spf_data.manifest import Manifest
from spf_data.sources.paths import PathError, check_inside

# Images that a worker is sent at a time; two such lots are under way for each.
_LOT = 8
_SAMPLED_ROWS = 16

Job = tuple[int, str]


@dataclass(frozen=True)
class _Decoded:
    """One row: the image and its source (height, width, bytes), or the reason why there is none."""

    row: int
    image: npt.NDArray[np.uint8] | None
    source: tuple[int, int, int]
    reason: str = ""


class _Decoder(torch.utils.data.Dataset[_Decoded]):
    """What a worker does. It is told a path with each row, and holds no others."""

    def __init__(self, root: Path, image_size: int) -> None:
        self._root, self._image_size = root, image_size

    def __getitem__(self, job: Job) -> _Decoded:
        row, image = job
        try:
            path = check_inside(self._root, image)
            pixels = read_image(path)
            source = (*pixels.shape, path.stat().st_size)
            return _Decoded(row, square(pixels, self._image_size), source)
        except (PathError, ImageError) as error:
            return _Decoded(row, None, (0, 0, 0), error.reason)
        except Exception as error:
            raise RuntimeError(f"row {row} of the manifest can not be read for a reason without a name") from error


class _Jobs:
    """Lots of rows that are still to be read, with their paths."""

    def __init__(self, images: pa.ChunkedArray, rows: npt.NDArray[np.int64]) -> None:
        self._images, self._rows = images, rows

    def __iter__(self) -> Iterator[list[Job]]:
        for start in range(0, len(self._rows), _LOT):
            yield [(int(row), self._images[int(row)].as_py()) for row in self._rows[start : start + _LOT]]


def available_cpus() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cache_images(
    folder: Path,
    manifest: Manifest,
    root: Path,
    image_size: int,
    *,
    workers: int = 0,
    retry: bool = False,
    wait: bool = False,
    progress: bool = True,
) -> ImageCache:
    """Read, square and resize every image of `manifest` once; what `folder` already holds is not read again.

    An image that can not be read is recorded with its reason, which is final unless `retry` is set.

    Args:
        folder: The cache's own folder, new or as an earlier call left it.
        manifest: Whose images.
        root: Folder that its paths are relative to.
        image_size: Pixels a side.
        workers: Processes that decode; 0 decodes in this one.
        retry: Try images again that could not be read.
        wait: For another process that caches into `folder`, instead of raising.
        progress: Show a bar on a terminal.

    Raises:
        FileNotFoundError: If `root` is no folder, or holds none of the images that are looked for first.
        LockedError: If another process is caching into `folder`.
        OSError: If the disk is full. What was read stays: the same call goes on.
        RuntimeError: If reading an image fails in a way that `read_image` does not name; the message has its row.
        ValueError: If an argument is out of range, `folder` holds something else or another cache, the images under
            `root` are not those that the cache was begun with, or not one image could be read.
    """
    if workers < 0:
        raise ValueError(f"workers must not be negative, got {workers}")
    key = key_of(manifest, image_size)
    if not root.is_dir():
        raise FileNotFoundError(f"root must be the folder of the images, got {root}")
    root = root.resolve()
    if not retry and _is_finished(folder, key):
        _check_root(folder, key, manifest.table.column("image"), root)
        return _finished(folder)
    with locked(folder.with_name(f"{folder.name}.lock"), wait=wait):
        if (folder / KEY).exists():
            check_key(folder, key)
        else:
            create(folder, key)
        _fill(folder, key, manifest, root, workers, retry, progress)
        return _finished(folder)


def _is_finished(folder: Path, key: CacheKey) -> bool:
    """Whether nothing is left to do, for which no lock is needed: others may only read the folder."""
    if not (folder / KEY).exists():
        return False
    check_key(folder, key)
    return not (open_array(folder, STATUS, key)[:] == NOT_YET).any()


def _fill(
    folder: Path, key: CacheKey, manifest: Manifest, root: Path, workers: int, retry: bool, progress: bool
) -> None:
    images = manifest.table.column("image")
    _check_root(folder, key, images, root)
    status = np.array(open_array(folder, STATUS, key))
    rows = np.flatnonzero((status != READ) if retry else (status == NOT_YET))
    if not len(rows):
        return
    _check_space(folder, len(rows), key)
    loader = DataLoader(
        _Decoder(root, key.image_size),
        batch_sampler=_Jobs(images, rows),
        num_workers=workers,
        collate_fn=list,
        in_order=False,
    )
    _, reasons = read_key(folder)
    bar = tqdm(
        total=key.rows, initial=key.rows - len(rows), desc="caching", unit="image", disable=None if progress else True
    )
    with bar, CacheWriter(folder, key) as writer:
        for lot in loader:
            for decoded in lot:
                code = READ if decoded.image is not None else _code(decoded.reason, reasons)
                writer.add(decoded.row, decoded.image, decoded.source, code)
            bar.update(len(lot))


def _code(reason: str, reasons: tuple[str, ...]) -> int:
    if reason not in reasons:
        raise ValueError(
            f"the cache was begun by an older version, which does not know {reason!r}: name another folder"
        )
    return FIRST_REASON + reasons.index(reason)


def _finished(folder: Path) -> ImageCache:
    cache = ImageCache(folder)
    if not cache.readable.any():
        raise ValueError(f"no image could be read: {cache.unreadable_counts()}; --retry tries them again")
    return cache


def _check_root(folder: Path, key: CacheKey, images: pa.ChunkedArray, root: Path) -> None:
    """Some images, evenly spaced: is any of them there, and do those already read have the size they had?

    The same paths under another root can be other images: the collection at another size, for one.
    """
    status, sources = open_array(folder, STATUS, key), open_array(folder, SOURCES, key)
    found = 0
    sample = np.unique(np.linspace(0, key.rows - 1, _SAMPLED_ROWS).astype(np.int64)).tolist()
    for row in sample:
        try:
            size = check_inside(root, images[row].as_py()).stat().st_size
        except PathError:
            continue
        found += 1
        if status[row] == READ and sources[row, 2] != size:
            raise ValueError(
                f"the images under {root} are not those of the cache {folder}: row {row} had {sources[row, 2]:,} "
                f"bytes, has {size:,}; name another folder for the cache"
            )
    # A cache that is finished can do without its images.
    if not found and (status[:] == NOT_YET).any():
        raise FileNotFoundError(
            f"root must be the folder of the manifest's images, got {root}: none of {len(sample)} is there"
        )


def _check_space(folder: Path, rows: int, key: CacheKey) -> None:
    needed, free = rows * key.image_size**2, shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(
            errno.ENOSPC, f"the cache needs {needed / 1e9:.1f} GB more, and {free / 1e9:.1f} GB are free", str(folder)
        )
