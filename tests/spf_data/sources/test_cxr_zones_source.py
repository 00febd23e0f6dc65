import json
from pathlib import Path

import numpy as np
import pytest
from spf_data.cxr_zones import LABEL_COLUMNS, REQUIRED_COLUMNS, CxrZonesDataset
from spf_data.sources import PrepareOptions, cxr_zones_source

from .layouts import counts_hold, findings_of, labels_of, options, write_csv, write_image

SHARED = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "cxr-zones"


def _row(number, **changes):
    row = dict.fromkeys((*REQUIRED_COLUMNS, "projection", "sex", "age", "boxes", "location_labels"), "")
    row |= {"image": f"images/{number}.jpg", "source": "nih-chestxray14", "group": f"p{number}", "projection": "PA"}
    row |= dict(zip(LABEL_COLUMNS, ["0", "1", "0", "0", "1", ""], strict=True))
    row |= {"lung_right": "[32, 64, 80, 128]", "sex": "F", "age": "36"}
    return row | changes


def _prepare(root, rows, **changes):
    for row in rows:
        if row["image"].startswith("images/"):
            write_image(root / row["image"])
    write_csv(root / "labels.csv", rows)
    return cxr_zones_source.prepare(options(root, **changes))


def test_rows_become_labels_findings_lungs_and_boxes(tmp_path):
    boxes = json.dumps([{"label": "Opacity", "src": "rsna", "box": [160, 64, 48, 96]}])
    rows = [
        _row(0, boxes=boxes, location_labels="Opacity/lung/left/lower;Opacity/lung/left/middle"),
        _row(1, source="cohen-covid"),
    ]
    prepared = _prepare(tmp_path, rows)
    assert list(labels_of(prepared)["images/0.jpg"].values()).count(1) == 2
    assert findings_of(prepared)[0] == ("Opacity", "yes", "lung|lower", "left")
    assert prepared.manifest.column("source") == ["cxr-zones/nih-chestxray14", "cxr-zones/cohen-covid"]
    lung, opacity = prepared.boxes.to_pylist()[:2]
    assert (lung["kind"], lung["finding"], [lung[key] for key in "xywh"]) == (
        "region",
        "right lung",
        [0.125, 0.25, 0.3125, 0.5],
    )
    assert (opacity["kind"], opacity["finding"], opacity["laterality"]) == ("finding", "Opacity", "left")


@pytest.mark.parametrize("column", ["op_RU", "op_LL"])
def test_invalid_labels_are_counted(tmp_path, column):
    prepared = _prepare(tmp_path, [_row(0), _row(1, **{column: "2"})])
    assert prepared.report.dropped == {"invalid label": 1}
    assert counts_hold(prepared)


@pytest.mark.parametrize(
    ("changes", "notice"),
    [
        ({"boxes": "{"}, "boxes left out: not a JSON list"),
        ({"boxes": "7"}, "boxes left out: not a JSON list"),
        ({"boxes": '[{"label": "Opacity"}]'}, "box left out: not four finite numbers"),
        ({"lung_left": "[1, 2, 3]"}, "box left out: not four finite numbers"),
        ({"lung_left": "none"}, "box left out: not four finite numbers"),
    ],
)
def test_invalid_boxes_are_counted(tmp_path, changes, notice):
    prepared = _prepare(tmp_path, [_row(0, **changes)])
    assert prepared.report.noticed == {notice: 1}


def test_a_path_that_leads_out_is_dropped(tmp_path):
    prepared = _prepare(tmp_path, [_row(0), _row(1, image="../labels.csv")])
    assert prepared.report.dropped == {"path outside root": 1}


def test_there_is_no_split_of_its_own(tmp_path):
    with pytest.raises(ValueError, match="split must be 'hash'"):
        _prepare(tmp_path, [_row(0)], split="own")


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data/cxr-zones is not there")
def test_the_real_data_set_has_the_labels_that_its_reader_has():
    prepared = cxr_zones_source.prepare(PrepareOptions(root=SHARED))
    assert (len(prepared.manifest), prepared.boxes.num_rows, prepared.findings.num_rows) == (1168, 2768, 1051)
    dataset = CxrZonesDataset(SHARED, image_size=8, require_labels=False)
    columns = [prepared.manifest.label_names.index(name) for name in dataset.label_set.names]
    assert np.array_equal(prepared.manifest.labels()[:, columns], dataset.labels.numpy(), equal_nan=True)
    assert [f"cxr-zones:{patient}" for patient in dataset.patients] == prepared.manifest.column("patient")
