import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from spf_data.cxr_zones import LABEL_COLUMNS, LABEL_SET, NO_LABELS, REQUIRED_COLUMNS, CxrZonesDataset

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "cxr-zones"


def _save(path, seed=0, size=(40, 40), mode="L"):
    path.parent.mkdir(exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3) if mode == "RGB" else size).astype(np.uint8)
    Image.fromarray(pixels).save(path)


def _row(number, **changes):
    row = dict.fromkeys(REQUIRED_COLUMNS, "")
    row |= dict(zip(LABEL_COLUMNS, ["0", "1", "0", "0", "1", ""], strict=True))
    row |= {"image": f"images/{number}.jpg", "source": "site", "group": f"patient-{number}"}
    row |= {"lung_right": "[4, 8, 10, 20]"}
    return row | changes


def _write(root, rows, columns=REQUIRED_COLUMNS):
    for number in range(len(rows)):
        _save(root / "images" / f"{number}.jpg", seed=number)
    with (root / "labels.csv").open("w", newline="") as opened:
        writer = csv.DictWriter(opened, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return root


def test_rows_become_images_labels_patients_and_sources(tmp_path):
    dataset = CxrZonesDataset(_write(tmp_path, [_row(0), _row(1, source="other")]), image_size=20)
    assert dataset[0]["image"].shape == (1, 20, 20)
    assert np.array_equal(dataset.labels[0].numpy(), [0, 1, 0, 0, 1, np.nan], equal_nan=True)
    assert dataset.patients.tolist() == ["patient-0", "patient-1"]
    assert dataset.sources.tolist() == ["site", "other"]
    assert dataset.report == {}


def test_labels_are_those_of_their_columns(tmp_path):
    row = _row(0, **dict.fromkeys(LABEL_COLUMNS, "0")) | {"op_LM": "1"}
    dataset = CxrZonesDataset(_write(tmp_path, [row]))
    assert [LABEL_SET.names[k] for k in np.flatnonzero(dataset.labels[0])] == ["left middle zone opacity"]


def test_images_keep_their_pixels_at_their_own_size(tmp_path):
    dataset = CxrZonesDataset(_write(tmp_path, [_row(0)]), image_size=40)
    with Image.open(tmp_path / "images" / "0.jpg") as opened:
        expected = np.asarray(opened)
    assert np.array_equal((dataset[0]["image"][0].numpy() * 255).round(), expected)


def test_resizing_does_not_alias(tmp_path):
    _write(tmp_path, [_row(0)])
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(tmp_path / "images" / "0.jpg", quality=95)
    assert CxrZonesDataset(tmp_path, image_size=16)[0]["image"].std() < 0.05


def test_colour_images_become_grey(tmp_path):
    _write(tmp_path, [_row(0)])
    _save(tmp_path / "images" / "0.jpg", mode="RGB")
    assert CxrZonesDataset(tmp_path, image_size=16)[0]["image"].shape == (1, 16, 16)


@pytest.mark.parametrize("image_size", [20, 40])
def test_lung_boxes_are_shares_of_the_image_whatever_its_size(tmp_path, image_size):
    rows = [_row(0, lung_source="radiologist"), _row(1, lung_source="predicted"), _row(2, lung_right="")]
    dataset = CxrZonesDataset(_write(tmp_path, rows), image_size)
    assert dataset.lung_boxes[0, 0].tolist() == pytest.approx([0.1, 0.2, 0.25, 0.5])
    assert dataset.lung_boxes[0, 1].isnan().all()
    assert dataset.lung_boxes[2].isnan().all()
    assert dataset.lung_sources.tolist() == ["radiologist", "predicted", ""]


def test_an_unknown_lung_source_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"row 1: lung_source must be one of .* got 'guessed'"):
        CxrZonesDataset(_write(tmp_path, [_row(0, lung_source="guessed")]))


def test_rows_without_labels_are_counted_or_kept_on_request(tmp_path):
    unknown = _row(1, **dict.fromkeys(LABEL_COLUMNS, ""))
    _write(tmp_path, [_row(0), unknown])
    dataset = CxrZonesDataset(tmp_path)
    assert dataset.patients.tolist() == ["patient-0"]
    assert dataset.report == {NO_LABELS: 1}
    everything = CxrZonesDataset(tmp_path, require_labels=False)
    assert len(everything) == 2
    assert everything.labels[1].isnan().all()
    assert everything.report == {}


BAD_ROWS = {
    "invalid label": {"op_RM": "2"},
    "missing group": {"group": ""},
    "missing image": {"image": "images/absent.jpg"},
    "path outside root": {"image": "../outside.jpg"},
    "invalid lung box": {"lung_left": "[1, 2, 3]"},
}


@pytest.mark.parametrize("reason", BAD_ROWS)
def test_an_unusable_row_is_named_or_skipped_and_counted(tmp_path, reason):
    root = tmp_path / "root"
    root.mkdir()
    _save(tmp_path / "outside.jpg")
    _write(root, [_row(0), _row(1, **BAD_ROWS[reason]), _row(2)])
    with pytest.raises(ValueError, match=r"labels\.csv, row 2: "):
        CxrZonesDataset(root)
    dataset = CxrZonesDataset(root, on_error="skip")
    assert dataset.patients.tolist() == ["patient-0", "patient-2"]
    assert dataset.report == {reason: 1}


@pytest.mark.parametrize("value", ["/etc/hostname", "images/../../outside.jpg", "link.jpg"])
def test_no_path_leaves_the_root(tmp_path, value):
    root = tmp_path / "root"
    root.mkdir()
    _save(tmp_path / "outside.jpg")
    (root / "link.jpg").symlink_to(tmp_path / "outside.jpg")
    with pytest.raises(ValueError, match="lies outside"):
        CxrZonesDataset(_write(root, [_row(0, image=value)]))


@pytest.mark.parametrize(
    "box", ["5", "nonsense", "[1, 2, 3, NaN]", "[1, 2, 0, 4]", "[1, 2, 3, -4]", '["a", 1, 2, 3]', "[[1, 2], [3, 4]]"]
)
def test_invalid_lung_boxes_are_refused(tmp_path, box):
    with pytest.raises(ValueError, match="lung_right must"):
        CxrZonesDataset(_write(tmp_path, [_row(0, lung_right=box)]))


EXTRA = [*REQUIRED_COLUMNS, "sex", "age", "projection", "boxes"]
LUNGS = {"lung_right": "[0, 6, 20, 30]", "lung_left": "[20, 6, 20, 30]"}


def test_attributes_are_those_of_the_table_where_it_has_them(tmp_path):
    rows = [_row(0, sex="F", age="58", projection="AP Supine"), _row(1)]
    attributes = CxrZonesDataset(_write(tmp_path, rows, EXTRA)).attributes
    assert {name: values.tolist() for name, values in attributes.items()} == {
        "sex": ["F", ""],
        "age": ["58", ""],
        "view": ["AP", ""],
    }
    without = CxrZonesDataset(_write(tmp_path, rows)).attributes
    assert all(values.tolist() == ["", ""] for values in without.values())


def test_masks_are_marked_boxes_within_the_thirds_of_present_labels(tmp_path):
    # right middle and left middle are present; the box lies over the right middle and lower third
    boxes = '[{"src": "rsna", "box": [4, 20, 8, 12]}, {"src": "nih", "box": [0, 0, 40, 40]}]'
    dataset = CxrZonesDataset(_write(tmp_path, [_row(0, boxes=boxes, **LUNGS), _row(1, boxes=boxes)], EXTRA), 40)
    expected = np.zeros((len(LABEL_SET), 40, 40), dtype=bool)
    expected[LABEL_SET.index("right middle zone opacity"), 20:26, 4:12] = True
    assert np.array_equal(dataset.mask(0), expected)
    assert not dataset.mask(1).any()


@pytest.mark.parametrize("boxes", ["5", "nonsense", '[{"src": "rsna"}]', '[{"src": "rsna", "box": [1, 2, 0, 4]}]'])
def test_invalid_finding_boxes_are_refused(tmp_path, boxes):
    with pytest.raises(ValueError, match="boxes must be objects with src and box"):
        CxrZonesDataset(_write(tmp_path, [_row(0, boxes=boxes)], EXTRA))


@pytest.mark.parametrize("label", ["2", "0.5", "yes", "nan", " 1", "-1"])
def test_labels_other_than_0_1_or_empty_are_refused(tmp_path, label):
    with pytest.raises(ValueError, match="op_RU must be 0, 1 or empty"):
        CxrZonesDataset(_write(tmp_path, [_row(0, op_RU=label)]))


@pytest.mark.parametrize("content", [b"", b"not an image", "truncated"])
def test_a_damaged_image_is_refused(tmp_path, content):
    _write(tmp_path, [_row(0), _row(1)])
    path = tmp_path / "images" / "1.jpg"
    path.write_bytes(path.read_bytes()[:400] if content == "truncated" else content)
    with pytest.raises(ValueError, match=r"row 2: image 'images/1\.jpg' .* can not be read"):
        CxrZonesDataset(tmp_path)
    assert CxrZonesDataset(tmp_path, on_error="skip").report == {"unreadable image": 1}


def test_images_that_resizing_would_distort_or_clip_are_refused(tmp_path):
    _write(tmp_path, [_row(0)])
    _save(tmp_path / "images" / "0.jpg", size=(40, 30))
    with pytest.raises(ValueError, match="must be square, got 30x40"):
        CxrZonesDataset(tmp_path)
    Image.fromarray(np.full((40, 40), 40000, np.uint16)).save(tmp_path / "images" / "0.png")
    _write(tmp_path, [_row(0, image="images/0.png")])
    with pytest.raises(ValueError, match="must have 8 bits"):
        CxrZonesDataset(tmp_path)


@pytest.mark.parametrize("column", REQUIRED_COLUMNS)
def test_a_missing_column_is_named_even_when_errors_are_skipped(tmp_path, column):
    columns = [other for other in REQUIRED_COLUMNS if other != column]
    with pytest.raises(ValueError, match=f"lacks the columns \\['{column}'\\]"):
        CxrZonesDataset(_write(tmp_path, [_row(0)], columns), on_error="skip")


@pytest.mark.parametrize("line", ["a,b", ",".join("x" * (len(REQUIRED_COLUMNS) + 1))])
def test_a_row_with_another_number_of_fields_is_refused(tmp_path, line):
    _write(tmp_path, [_row(0)])
    with (tmp_path / "labels.csv").open("a") as opened:
        opened.write(line + "\n")
    with pytest.raises(ValueError, match="row 2: the number of fields"):
        CxrZonesDataset(tmp_path)
    assert CxrZonesDataset(tmp_path, on_error="skip").report == {"malformed row": 1}


def test_a_folder_without_table_or_rows_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"labels\.csv"):
        CxrZonesDataset(tmp_path)
    with pytest.raises(ValueError, match=r"no usable row; dropped: \{'missing group': 1\}"):
        CxrZonesDataset(_write(tmp_path, [_row(0, group="")]), on_error="skip")


@pytest.mark.parametrize("arguments", [{"image_size": 0}, {"on_error": "ignore"}])
def test_invalid_arguments_are_refused(tmp_path, arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        CxrZonesDataset(_write(tmp_path, [_row(0)]), **arguments)


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data/cxr-zones is not there")
def test_the_real_data_set_is_read_whole():
    dataset = CxrZonesDataset(SHARED, image_size=64)
    assert len(dataset) == 350
    assert dataset.report == {NO_LABELS: 818}
    assert int((dataset.labels == 1).any(dim=1).sum()) == 177
    assert set(dataset.sources) == {"nih-chestxray14", "cohen-covid"}
    known = ~dataset.lung_boxes.isnan().any(dim=2).any(dim=1).numpy()
    assert known.sum() == 345
    assert np.array_equal(dataset.lung_sources != "", known)
    # The patient's right lung is on the image's left.
    assert (dataset.lung_boxes[known, 0, 0] < dataset.lung_boxes[known, 1, 0]).all()
    assert dataset.lung_boxes[known].min() > -0.05
    assert (dataset.lung_boxes[known][..., :2] + dataset.lung_boxes[known][..., 2:]).max() < 1.1
