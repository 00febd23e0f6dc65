"""The lungs' boxes of a manifest, in the frame of the squared images."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from spf_data.manifest import BOX_SCHEMA, Manifest, read_table

_LUNGS = ("right lung", "left lung")


def boxes_path(manifest: Path) -> Path:
    """Where `write_prepared` puts the boxes of the manifest at `manifest`; not every manifest has any."""
    return manifest.with_suffix(".boxes.parquet")


def read_lung_boxes(path: Path, manifest: Manifest, sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Boxes of the patient's right and left lung: the regions "right lung" and "left lung" of the boxes' table.

    Args:
        path: The table, see `boxes_path`; without it no box is known.
        manifest: N images.
        sizes: (N, 2): height and width of each image file; 0 where not known, which leaves its boxes out.

    Returns:
        float32 (N, 2, 4): x, y, width and height as shares of the image's side once it is zero-padded to a centred
        square; NaN where not known.

    Raises:
        ValueError: If the file is damaged or has other columns, or an image has two boxes of one lung.
    """
    boxes = np.full((len(manifest), 2, 4), np.nan, dtype=np.float32)
    if not path.exists():
        return boxes
    table = read_table(path)
    if table.schema.names != BOX_SCHEMA.names:
        raise ValueError(f"{path} must have the columns {BOX_SCHEMA.names}, got {table.schema.names}")
    regions = table.filter(pc.equal(table["kind"], "region"))
    for lung, name in enumerate(_LUNGS):
        found = regions.filter(pc.equal(regions["finding"], name))
        rows = pc.index_in(found["image"], manifest.table.column("image")).to_numpy()
        if np.isnan(rows).any() or len(np.unique(rows)) < len(rows):
            raise ValueError(f"{path} must have one box of the {name} an image, and of the manifest's images alone")
        rows = rows.astype(np.int64)
        boxes[rows, lung] = _in_square(found, sizes[rows])
    return boxes


def _in_square(table: pa.Table, sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """(M, 4), from either frame; NaN where the frame is the image and its size is not known."""
    boxes = np.stack([table[name].to_numpy() for name in ("x", "y", "w", "h")], axis=1)
    of_image = np.array(table["frame"].to_pylist(), dtype=str) == "image"
    height, width = sizes[of_image].T
    side = np.where(height > 0, np.maximum(height, width), np.nan)
    x, y, w, h = boxes[of_image].T
    # `square` pads by whole pixels
    left, top = (side - width) // 2, (side - height) // 2
    boxes[of_image] = np.stack([x * width + left, y * height + top, w * width, h * height], axis=1) / side[:, None]
    return boxes.astype(np.float32)
