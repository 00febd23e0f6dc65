import numpy as np
import pyarrow as pa
import pytest
from spf_data.images import square
from spf_data.lung_boxes import boxes_path, read_lung_boxes
from spf_data.manifest import BOX_SCHEMA, write_table

from tests.spf_data.manifests import make_manifest

IMAGES = ["a.png", "b.png", "c.png"]
SIZES = np.array([[40, 40], [30, 40], [41, 20]])


def _read(tmp_path, rows, sizes=SIZES):
    path = boxes_path(tmp_path / "m.parquet")
    columns = list(zip(*rows, strict=True))
    write_table(
        path, pa.table([pa.array(c, f.type) for c, f in zip(columns, BOX_SCHEMA, strict=True)], schema=BOX_SCHEMA)
    )
    return read_lung_boxes(path, make_manifest(IMAGES), sizes)


def _row(image, name="right lung", frame="image", box=(0.25, 0.5, 0.25, 0.5), kind="region"):
    return (image, kind, name, "", frame, *box)


def test_boxes_go_to_their_image_and_lung(tmp_path):
    left = (0.5, 0.1, 0.4, 0.6)
    boxes = _read(tmp_path, [_row("c.png", "left lung", "square", left), _row("a.png"), _row("a.png", "heart")])
    assert np.allclose(boxes[2, 1], left)
    assert np.allclose(boxes[0, 0], (0.25, 0.5, 0.25, 0.5))
    assert np.isnan(boxes[[0, 1, 2], [1, 0, 0]]).all()
    assert np.isnan(boxes[1]).all()
    assert boxes.dtype == np.float32


@pytest.mark.parametrize("row", range(3))
def test_boxes_of_the_image_are_where_square_puts_their_pixels(tmp_path, row):
    height, width = SIZES[row]
    image = np.zeros((height, width), dtype=np.float32)
    image[10:20, 4:12] = 1
    box = (4 / width, 10 / height, 8 / width, 10 / height)
    side = max(height, width)
    x, y, w, h = _read(tmp_path, [_row(IMAGES[row], box=box)])[row, 0] * side
    rows, columns = np.nonzero(square(image, side))
    assert np.allclose([columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1], [x, y, w, h], atol=1e-4)


def test_findings_are_no_lungs_and_a_box_of_an_image_of_unknown_size_is_left_out(tmp_path):
    boxes = _read(tmp_path, [_row("a.png", kind="finding"), _row("b.png")], np.zeros((3, 2), dtype=np.int64))
    assert np.isnan(boxes).all()


def test_without_a_table_no_box_is_known(tmp_path):
    assert np.isnan(read_lung_boxes(tmp_path / "none.parquet", make_manifest(IMAGES), SIZES)).all()


@pytest.mark.parametrize("rows", [[_row("a.png"), _row("a.png")], [_row("z.png")]])
def test_two_boxes_of_a_lung_and_unknown_images_are_refused(tmp_path, rows):
    with pytest.raises(ValueError, match="one box of the right lung an image"):
        _read(tmp_path, rows)


def test_another_table_is_refused(tmp_path):
    write_table(tmp_path / "x.parquet", pa.table({"image": ["a.png"]}))
    with pytest.raises(ValueError, match="must have the columns"):
        read_lung_boxes(tmp_path / "x.parquet", make_manifest(IMAGES), SIZES)
