"""The files of a cache, and what they are bound to.

| file | |
|---|---|
| `cache.json` | `CacheKey`, and the reasons that `status.npy` counts through |
| `images.npy` | uint8 (N, S, S); zeros where an image could not be read |
| `sources.npy` | int64 (N, 3): height and width in pixels and bytes of the file that a row was read from |
| `status.npy` | uint8 (N,): `NOT_YET`, `READ`, or `FIRST_REASON` and above: why the image could not be read |
"""

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from spf_data.images import Reason
from spf_data.manifest import Manifest, open_atomically

# To be raised whenever `read_image` or `square` gives other pixels: old caches are then refused.
READER_VERSION = "1"
KEY, IMAGES, SOURCES, STATUS = "cache.json", "images.npy", "sources.npy", "status.npy"
NOT_YET, READ, FIRST_REASON = 0, 1, 2
REASONS = (*get_args(Reason), "path outside root", "missing image", "unusable path", "empty image file")


@dataclass(frozen=True)
class CacheKey:
    """What the pixels of a cache follow from; labels, patients and split do not change them.

    Attributes:
        images: SHA-256 of the manifest's image paths, in order.
        rows: N, how many there are.
        image_size: S, pixels a side.
        reader: `READER_VERSION`.
    """

    images: str
    rows: int
    image_size: int
    reader: str = READER_VERSION

    def shapes(self) -> dict[str, tuple[tuple[int, ...], type[np.generic]]]:
        """Shape and dtype of each file's array."""
        size = self.image_size
        return {
            IMAGES: ((self.rows, size, size), np.uint8),
            SOURCES: ((self.rows, 3), np.int64),
            STATUS: ((self.rows,), np.uint8),
        }


def key_of(manifest: Manifest, image_size: int) -> CacheKey:
    """The key of the cache that `manifest` needs.

    Raises:
        ValueError: If `image_size` is not positive.
    """
    if image_size < 1:
        raise ValueError(f"image_size must be positive, got {image_size}")
    digest = hashlib.sha256()
    for chunk in manifest.table.column("image").chunks:
        # No path holds a zero byte.
        digest.update("".join(f"{image}\0" for image in chunk.to_pylist()).encode())
    return CacheKey(digest.hexdigest(), len(manifest), image_size)


def create(folder: Path, key: CacheKey) -> None:
    """Make the files of an empty cache; they appear together or not at all.

    Raises:
        ValueError: If `folder` holds something else.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(
            f"cache must be a new or empty folder or hold an image cache, got {folder}, which has others' files"
        )
    temporary = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for name, (shape, dtype) in key.shapes().items():
        _create_array(temporary / name, shape, np.dtype(dtype))
    content = json.dumps({**asdict(key), "reasons": REASONS}, indent=2) + "\n"
    with open_atomically(temporary / KEY) as opened:
        opened.write(content.encode())
    temporary.replace(folder)


def read_key(folder: Path) -> tuple[CacheKey, tuple[str, ...]]:
    """The key of the cache in `folder`, and the reasons of its status.

    Raises:
        FileNotFoundError: If there is no cache.
        ValueError: If `cache.json` is damaged.
    """
    path = folder / KEY
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no image cache ({KEY})")
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        reasons = tuple(str(reason) for reason in content.pop("reasons"))
        return CacheKey(**content), reasons
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def check_key(folder: Path, wanted: CacheKey) -> None:
    """Refuse the cache in `folder` unless it has the key `wanted`.

    Raises:
        FileNotFoundError: If there is no cache.
        ValueError: If its key is another one; the message says in what.
    """
    found, _ = read_key(folder)
    differences = []
    if found.images != wanted.images:
        differences.append(f"the manifest's images (it has {found.rows:,}, the manifest {wanted.rows:,})")
    if found.image_size != wanted.image_size:
        differences.append(f"image_size (it has {found.image_size}, got {wanted.image_size})")
    if found.reader != wanted.reader:
        differences.append(f"the reader's version (it has {found.reader!r}, this is {wanted.reader!r})")
    if differences:
        raise ValueError(
            f"{folder} is another cache, by {' and '.join(differences)}: name another folder for the cache"
        )


def open_array(folder: Path, name: str, key: CacheKey) -> npt.NDArray[Any]:
    """One array of a cache, memory-mapped, read only.

    Raises:
        ValueError: If the file is damaged or not what the key says.
    """
    path = folder / name
    shape, dtype = key.shapes()[name]
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r")
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(f"{path} must be {np.dtype(dtype)} {shape}, got {array.dtype} {array.shape}")
    return array


def _create_array(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """An array of zeros that takes no space on the disk yet."""
    with path.open("wb") as opened:
        description = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(opened, description)
        opened.truncate(opened.tell() + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)
        opened.flush()
        os.fsync(opened.fileno())
