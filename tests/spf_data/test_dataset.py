import numpy as np
import pytest
import torch
from spf_data.dataset import XrayDataset
from spf_data.labels import Label, LabelSet

LABELS = LabelSet((Label("right nodule", "nodule", "right"), Label("left nodule", "nodule", "left")))


BOX = [0.1, 0.1, 0.3, 0.5]


def _arguments(**changes):
    arguments = {
        "label_set": LABELS,
        "images": np.random.default_rng(0).integers(0, 256, (3, 1, 8, 8)).astype(np.uint8),
        "labels": np.array([[0, 1], [np.nan, 0], [1, 1]], dtype=np.float32),
        "patients": np.array(["a", "a", "b"]),
        "sources": np.array(["x", "x", "y"]),
        "report": {},
    }
    return arguments | changes


def test_a_sample_is_a_scaled_image_with_its_labels_and_index():
    arguments = _arguments()
    dataset = XrayDataset(**arguments)
    sample = dataset[1]
    assert sample["image"].dtype == torch.float32
    assert torch.equal((sample["image"] * 255).round(), torch.from_numpy(arguments["images"][1]).float())
    assert torch.equal(torch.isnan(sample["labels"]), torch.tensor([True, False]))
    assert sample["index"] == 1
    assert sample["lungs"].shape == (2, 4)
    assert sample["lungs"].isnan().all()
    assert (len(dataset), dataset.image_size, dataset.channels) == (3, 8, 1)


def test_a_sample_has_its_lung_boxes():
    boxes = np.random.default_rng(1).random((3, 2, 4)).astype(np.float32)
    boxes[1, 0] = np.nan
    dataset = XrayDataset(**_arguments(lung_boxes=boxes))
    assert dataset.lung_boxes.dtype == torch.float32
    for index in range(3):
        assert np.array_equal(dataset[index]["lungs"].numpy(), boxes[index], equal_nan=True)


def test_rows_count_from_either_end_and_no_further():
    dataset = XrayDataset(**_arguments())
    assert dataset[-1]["index"] == 2
    for index in (3, -4):
        with pytest.raises(IndexError, match=f"got {index}"):
            dataset[index]


def test_a_data_set_without_masks_says_so():
    with pytest.raises(NotImplementedError, match="XrayDataset has no finding masks"):
        XrayDataset(**_arguments()).mask(0)


def test_a_data_loader_batches_it():
    batch = next(iter(torch.utils.data.DataLoader(XrayDataset(**_arguments()), batch_size=3)))
    assert batch["image"].shape == (3, 1, 8, 8)
    assert batch["labels"].shape == (3, 2)
    assert batch["lungs"].shape == (3, 2, 4)
    assert batch["index"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"images": np.zeros((3, 1, 8, 8), np.float32)}, TypeError, "images must be uint8, got float32"),
        ({"labels": np.zeros((3, 2))}, TypeError, "labels must be float32, got float64"),
        ({"images": np.zeros((3, 8, 8), np.uint8)}, ValueError, "images must be"),
        ({"images": np.zeros((3, 1, 8, 6), np.uint8)}, ValueError, "images must be"),
        ({"labels": np.zeros((3, 3), np.float32)}, ValueError, r"labels must be \(3, 2\)"),
        ({"labels": np.full((3, 2), 0.5, np.float32)}, ValueError, "labels must be 1, 0 or NaN"),
        ({"patients": np.array(["a", "b"])}, ValueError, "patients and sources must be"),
        ({"lung_boxes": np.ones((3, 2, 4))}, TypeError, "lung_boxes must be float32, got float64"),
        (
            {"lung_boxes": np.ones((2, 2, 4), np.float32)},
            ValueError,
            r"lung_boxes must be \(3, 2, 4\), got \(2, 2, 4\)",
        ),
        *(
            ({"lung_boxes": np.array([[BOX, BOX], [BOX, box], [BOX, BOX]], np.float32)}, ValueError, "in row 1")
            for box in ([0.1, 0.1, 0.0, 0.5], [0.1, 0.1, 0.3, -0.5], [0.1, np.nan, 0.3, 0.5], [np.inf, 0.1, 0.3, 0.5])
        ),
    ],
)
def test_rows_that_do_not_fit_together_are_refused(changes, error, message):
    with pytest.raises(error, match=message):
        XrayDataset(**_arguments(**changes))


def test_attributes_are_kept_by_name_and_must_fit_the_rows():
    sexes = np.array(["F", "", "M"])
    assert XrayDataset(**_arguments()).attributes == {}
    assert XrayDataset(**_arguments(attributes={"sex": sexes})).attributes["sex"].tolist() == ["F", "", "M"]
    with pytest.raises(ValueError, match=r"attribute 'sex' must be \(3,\), got \(2,\)"):
        XrayDataset(**_arguments(attributes={"sex": sexes[:2]}))


def test_a_split_is_kept_and_checked():
    assert XrayDataset(**_arguments()).split is None
    split = np.array(["train", "train", "test"])
    assert XrayDataset(**_arguments(split=split)).split is split
    for wrong, message in ((split[:2], r"split must be \(3,\)"), (np.array(["train", "x", "test"]), "got 'x'")):
        with pytest.raises(ValueError, match=message):
            XrayDataset(**_arguments(split=wrong))


def test_its_own_split_comes_before_a_hash():
    own = XrayDataset(**_arguments(split=np.array(["test", "test", "train"]))).parts((0.0, 0.0, 1.0), 3)
    assert {part: rows.tolist() for part, rows in own.items()} == {"train": [2], "validation": [], "test": [0, 1]}
    hashed = XrayDataset(**_arguments()).parts((1.0, 0.0, 0.0), 3)
    assert {part: rows.tolist() for part, rows in hashed.items()} == {"train": [0, 1, 2], "validation": [], "test": []}
    with pytest.raises(ValueError, match="the split leaks"):
        XrayDataset(**_arguments(split=np.array(["test", "train", "train"]))).parts((1.0, 0.0, 0.0), 3)


def test_an_invalid_label_is_found_wherever_it_is():
    rows = 40_000
    rest = {"patients": np.array(["a"] * rows), "sources": np.array(["x"] * rows)}
    images, labels = np.zeros((rows, 1, 1, 1), dtype=np.uint8), np.zeros((rows, 2), dtype=np.float32)
    for row in (0, 16_383, 16_384, rows - 1):
        wrong = labels.copy()
        wrong[row, 1] = 0.5
        with pytest.raises(ValueError, match="labels must be 1, 0 or NaN"):
            XrayDataset(**_arguments(images=images, labels=wrong, **rest))
    assert len(XrayDataset(**_arguments(images=images, labels=labels, **rest))) == rows
