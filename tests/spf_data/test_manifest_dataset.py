import os
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from spf_data.cxr_zones import LABEL_SET, CxrZonesDataset
from spf_data.image_cache import cache_images
from spf_data.image_cache.layout import READ, STATUS, create, key_of
from spf_data.lung_boxes import boxes_path
from spf_data.manifest import BOX_SCHEMA, write_table
from spf_data.manifest_dataset import NO_LABELS, Selection, open_manifest_dataset
from spf_data.sources import SOURCES, PrepareOptions, write_prepared
from torch.utils.data import DataLoader

from tests.spf_data.manifests import SIDES, make_images, make_manifest, write

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "cxr-zones"
SIZE = 12


def _open(tmp_path, rows=6, unreadable=(), selection=None, **columns):
    images = make_images(tmp_path, rows, unreadable).column("image")
    manifest = make_manifest(images, **columns)
    path = write(tmp_path / "m.parquet", manifest)
    cache_images(tmp_path / "cache", manifest, tmp_path, SIZE, progress=False)
    return open_manifest_dataset(path, tmp_path / "cache", SIZE, selection or Selection())


def _big(tmp_path, rows=100_000):
    """A data set whose images are all zero."""
    manifest = make_manifest(
        [f"images/p{row // 3:07d}/{row:09d}.png" for row in range(rows)], {name: [0, 1] * rows for name in SIDES}
    )
    path = write(tmp_path / "m.parquet", manifest)
    create(tmp_path / "cache", key_of(manifest, 64))
    content = (tmp_path / "cache" / STATUS).read_bytes()
    (tmp_path / "cache" / STATUS).write_bytes(content[:-rows] + bytes([READ]) * rows)
    return open_manifest_dataset(path, tmp_path / "cache", 64, Selection())


def test_rows_are_those_of_the_manifest(tmp_path):
    labels = {SIDES[0]: [0, 1, None, 1, 0, 0], SIDES[1]: [1, None, 0, 1, 1, 0]}
    dataset = _open(
        tmp_path,
        labels=labels,
        patient=list("aabbcd"),
        split=["train"] * 2 + ["test"] * 2 + ["validation", "train"],
        source=["x", "y"] * 3,
        view=["PA", "AP", "AP supine", "frontal", "", "PA"],
        age=[50.0, None, 0.5, 7.0, 8.0, 9.0],
        sex=["F", "M", "", "F", "F", "F"],
    )
    expected = np.array([[np.nan if value is None else value for value in column] for column in labels.values()]).T
    assert np.array_equal(dataset.labels.numpy(), expected, equal_nan=True)
    assert dataset.labels.dtype == torch.float32
    assert (dataset.label_set.names, dataset.label_set.mirror) == (SIDES, (1, 0))
    assert "".join(dataset.patients) == "aabbcd"
    assert "".join(dataset.sources) == "xyxyxy"
    assert dataset.split.tolist() == ["train"] * 2 + ["test"] * 2 + ["validation", "train"]
    assert dataset.attributes["view"].tolist() == ["PA", "AP", "AP", "", "", "PA"]
    assert dataset.attributes["age"].tolist() == ["50", "", "0.5", "7", "8", "9"]
    assert dataset.attributes["sex"].tolist() == ["F", "M", "", "F", "F", "F"]
    assert dataset.report == {}
    assert (dataset.image_size, dataset.channels, len(dataset)) == (SIZE, 1, 6)


def test_samples_come_from_the_cache(tmp_path):
    dataset = _open(tmp_path, unreadable=(1,))
    cached = np.load(tmp_path / "cache" / "images.npy")
    for index, row in enumerate([0, 2, 3, 4, 5]):
        image = dataset[index]["image"]
        assert image.shape == (1, SIZE, SIZE)
        assert torch.equal((image * 255).round(), torch.from_numpy(cached[row][None]).float())


def test_what_can_not_be_used_is_left_out_and_counted(tmp_path):
    labels = {SIDES[0]: [0, None, None, 1, 0, 0], SIDES[1]: [1, None, None, None, 1, 0]}
    dataset = _open(tmp_path, unreadable=(1, 4), labels=labels)
    assert dataset.manifest_rows.tolist() == [0, 3, 5]
    assert dataset.patients.tolist() == ["test:0", "test:3", "test:5"]
    assert dataset.labels[1, 0] == 1
    assert dataset.report.pop(NO_LABELS) == 1
    assert list(dataset.report.values()) == [2]


def test_rows_without_labels_stay_on_request(tmp_path):
    dataset = _open(tmp_path, labels={name: [None, 1] * 3 for name in SIDES}, selection=Selection(require_labels=False))
    assert len(dataset) == 6


def test_the_split_can_be_left_to_the_settings(tmp_path):
    assert _open(tmp_path, selection=Selection(split_from="settings")).split is None
    with pytest.raises(ValueError, match="split_from must be one of"):
        Selection(split_from="hash")


def test_labels_can_be_chosen(tmp_path):
    labels = {name: [0, 1] * 3 for name in SIDES} | {"right lonely": [1, 0] * 3, "nodule": [None] + [0] * 5}
    dataset = _open(tmp_path, labels=labels, selection=Selection(("nodule", *SIDES)))
    assert dataset.label_set.names == ("nodule", *SIDES)
    assert dataset.labels[0].isnan().tolist() == [True, False, False]


def test_no_usable_row_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no usable row"):
        _open(tmp_path, labels={name: [None] * 6 for name in SIDES})


def test_lung_boxes_come_from_beside_the_manifest(tmp_path):
    _open(tmp_path, unreadable=(0,))
    box = ("images/002.png", "region", "left lung", "left", "square", 0.5, 0.25, 0.25, 0.5)
    arrays = [pa.array([value], field.type) for value, field in zip(box, BOX_SCHEMA, strict=True)]
    write_table(boxes_path(tmp_path / "m.parquet"), pa.table(arrays, schema=BOX_SCHEMA))
    dataset = open_manifest_dataset(tmp_path / "m.parquet", tmp_path / "cache", SIZE, Selection())
    assert dataset[1]["lungs"][1].tolist() == [0.5, 0.25, 0.25, 0.5]
    assert dataset.lung_boxes.isnan().sum() == 5 * 8 - 4


def test_a_changed_manifest_is_read_anew(tmp_path):
    assert _open(tmp_path).labels[0].tolist() == [0, 0]
    write(tmp_path / "m.parquet", make_manifest([f"images/{row:03d}.png" for row in range(6)], {"nodule": [1] * 6}))
    changed = open_manifest_dataset(tmp_path / "m.parquet", tmp_path / "cache", SIZE, Selection())
    assert changed.labels.tolist() == [[1]] * 6


def test_another_manifest_an_unfinished_and_no_cache_are_refused(tmp_path):
    _open(tmp_path)
    other = write(tmp_path / "other.parquet", make_manifest(["images/000.png"]))
    with pytest.raises(ValueError, match="another cache"):
        open_manifest_dataset(other, tmp_path / "cache", SIZE, Selection())
    with pytest.raises(ValueError, match="image_size"):
        open_manifest_dataset(tmp_path / "m.parquet", tmp_path / "cache", SIZE + 1, Selection())
    create(tmp_path / "begun", key_of(make_manifest(["images/000.png"]), SIZE))
    with pytest.raises(ValueError, match="is not finished: 1 of 1"):
        open_manifest_dataset(other, tmp_path / "begun", SIZE, Selection())
    with pytest.raises(FileNotFoundError, match="holds no image cache"):
        open_manifest_dataset(other, tmp_path / "none", SIZE, Selection())
    with pytest.raises(FileNotFoundError, match=r"none.parquet does not exist"):
        open_manifest_dataset(tmp_path / "none.parquet", tmp_path / "cache", SIZE, Selection())


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_load_what_the_process_itself_loads(tmp_path, method, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2] / "python"))
    dataset = _open(tmp_path, unreadable=(2,))
    loader = DataLoader(dataset, batch_size=2, num_workers=1, multiprocessing_context=method)
    for batch, expected in zip(loader, DataLoader(dataset, batch_size=2), strict=True):
        for key in ("image", "labels", "lungs", "index"):
            assert torch.allclose(batch[key], expected[key], rtol=0, atol=0, equal_nan=True)


def test_100_000_rows_pickle_to_paths_and_take_no_memory_of_their_own(tmp_path):
    dataset = _big(tmp_path)
    content = pickle.dumps(dataset)
    assert len(content) < 1000
    before = _own_memory()
    copy = pickle.loads(content)
    sample = copy[99_999]
    assert sample["labels"].tolist() == [1, 1]
    assert copy.patients[99_999] == "test:99999"
    # The patients' names alone are 4 MB.
    assert _own_memory() - before < 2e6


def _own_memory():
    """Bytes that this process shares with no file."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no RssAnon of process {os.getpid()}")


@pytest.mark.skipif(
    not SHARED.exists(), reason="the real radiographs (../shared/data/cxr-zones) are not on this machine"
)
def test_cxr_zones_is_the_same_by_its_manifest(tmp_path):
    prepared = SOURCES["cxr-zones"](PrepareOptions(root=SHARED))
    path = tmp_path / "zones.parquet"
    write_prepared(path, prepared)
    cache_images(tmp_path / "cache", prepared.manifest, SHARED, 64, progress=False)
    ours = open_manifest_dataset(path, tmp_path / "cache", 64, Selection(LABEL_SET.names))
    direct = CxrZonesDataset(SHARED, 64)
    assert ours.label_set == direct.label_set
    assert list(ours.report.values()) == list(direct.report.values())
    assert np.array_equal(ours.labels, direct.labels, equal_nan=True)
    assert [name.partition(":")[2] for name in ours.patients] == direct.patients.tolist()
    # Of boxes that reach beyond the image the manifest has the part within.
    inside = (direct.lung_boxes[..., :2] >= 0).all(-1) & (
        direct.lung_boxes[..., :2] + direct.lung_boxes[..., 2:] <= 1
    ).all(-1)
    assert torch.allclose(ours.lung_boxes[inside], direct.lung_boxes[inside], atol=1e-6, equal_nan=True)
    assert inside.float().mean() > 0.5
    # Lanczos on floats against Lanczos on bytes, which rounds twice.
    for row in range(0, len(ours), 50):
        difference = (ours[row]["image"] - direct[row]["image"]).abs() * 255
        assert difference.max() <= 4.01
        assert difference.mean() < 0.5
