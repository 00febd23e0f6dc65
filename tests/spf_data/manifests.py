"""Small manifests with their images, for tests."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image
from spf_data.image_cache import cache_images
from spf_data.manifest import BASE_SCHEMA, LABEL_PREFIX, Manifest, write_manifest

CACHE_SIZE = 12
SIDES = ("right opacity", "left opacity")


def make_manifest(images, labels=None, info=None, **columns):
    """A manifest of these paths, each its own patient; `labels`: values by name."""
    rows = len(images)
    base = {
        "image": images,
        "patient": [f"test:{row}" for row in range(rows)],
        "study": [""] * rows,
        "view": ["PA"] * rows,
        "source": ["test"] * rows,
        "split": [("train", "validation", "test")[row % 3] for row in range(rows)],
        "complete": [True] * rows,
        "age": [50.0] * rows,
        "sex": ["F"] * rows,
    }
    table = pa.Table.from_pydict(base | columns, BASE_SCHEMA)
    for name, values in (labels or {name: [0, 1] * rows for name in SIDES}).items():
        table = table.append_column(LABEL_PREFIX + name, pa.array(values[:rows], pa.int8()))
    return Manifest(table, {"source": "test", **(info or {})})


def save_image(path: Path, seed: int, size=(20, 14), bits=8):
    """A PNG of random pixels; size is (height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dtype = np.uint16 if bits == 16 else np.uint8
    pixels = np.random.default_rng(seed).integers(0, 2**bits, size).astype(dtype)
    Image.fromarray(pixels).save(path)


def make_images(root: Path, rows: int, unreadable=()):
    """`rows` images below `root`; those of the rows in `unreadable` are cut off.

    Returns:
        Their manifest.
    """
    images = [f"images/{row:03d}.png" for row in range(rows)]
    for row, image in enumerate(images):
        save_image(root / image, row, size=(20 + row % 3, 14 + row % 5), bits=(8, 16)[row % 2])
        if row in unreadable:
            (root / image).write_bytes((root / image).read_bytes()[:60])
    return make_manifest(images)


def write(path: Path, manifest: Manifest) -> Path:
    write_manifest(path, manifest)
    return path


def places(**sides):
    """The metadata that say where labels are: finding and side by name."""
    return {"label_places": json.dumps({name: {"finding": f, "side": s} for name, (f, s) in sides.items()})}


def make_cache(folder, manifest, root, **options):
    return cache_images(folder, manifest, root, CACHE_SIZE, progress=False, **options)


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
