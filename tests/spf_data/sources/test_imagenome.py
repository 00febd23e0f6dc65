import json
import zipfile

import pytest
from spf_data.sources import imagenome

from .layouts import counts_hold, findings_of, labels_of, options, write_csv

DICOMS = [f"{k:08x}-00000000-11111111-22222222-abcdef0{k}" for k in range(8)]
SUBJECT, STUDY = "10000032", "50414267"


def _image(k):
    return f"files/p10/p{SUBJECT}/s{STUDY}/{DICOMS[k]}.jpg"


def _object(region, x1=10, y1=20, x2=110, y2=200):
    return {
        "object_id": f"{DICOMS[0]}_{region}",
        "x1": x1,
        "y1": y1,
        "x2": x2,
        "y2": y2,
        "width": x2 - x1,
        "height": y2 - y1,
        "bbox_name": region,
        "synsets": ["C0225706"],
        "name": region.title(),
        "original_x1": 100,
        "original_y1": 200,
        "original_x2": 1100,
        "original_y2": 2000,
        "original_width": 1000,
        "original_height": 1800,
    }


def _attribute(region, *phrases):
    return {
        region: True,
        "bbox_name": region,
        "synsets": ["C0225706"],
        "name": region.title(),
        "attributes": [list(phrase) for phrase in phrases],
        "attributes_ids": [["CL556823"] for _ in phrases],
        "phrases": ["..." for _ in phrases],
        "phrase_IDs": ["50414267|1" for _ in phrases],
        "sections": ["finalreport" for _ in phrases],
        "comparison_cues": [[] for _ in phrases],
        "temporal_cues": [[] for _ in phrases],
        "severity_cues": [[] for _ in phrases],
        "texture_cues": [[] for _ in phrases],
        "object_id": f"{DICOMS[0]}_{region}",
    }


def _graph(k, attributes=(), objects=(), **changes):
    graph = {
        "image_id": DICOMS[k],
        "viewpoint": "PA",
        "patient_id": int(SUBJECT),
        "study_id": int(STUDY),
        "gender": "F",
        "age_decile": "50-60",
        "reason_for_exam": "___ with cough",
        "StudyOrder": 1,
        "StudyDateTime": "2180-05-06 21:30:14 UTC",
        "objects": list(objects),
        "attributes": list(attributes),
        "relationships": [],
    }
    return graph | changes


def _split_row(k):
    return {"subject_id": SUBJECT, "study_id": STUDY, "dicom_id": DICOMS[k], "path": "x.dcm", "ViewPosition": "PA"}


def _write(root, graphs, packed=True, avoid=(), parts=("train",) * 8):
    for part in ("train", "valid", "test"):
        rows = [{"": str(k)} | _split_row(k) for k in range(8) if parts[k] == part] or [
            {"": "9"} | _split_row(0) | {"dicom_id": f"none of {part}"}
        ]
        write_csv(root / "silver_dataset" / "splits" / f"{part}.csv", rows)
    avoided = [_split_row(k) for k in avoid] or [_split_row(0) | {"dicom_id": "none"}]
    write_csv(root / "silver_dataset" / "splits" / "images_to_avoid.csv", avoided)
    contents = {
        f"scene_graph/{DICOMS[k]}_SceneGraph.json": graph if isinstance(graph, bytes) else json.dumps(graph).encode()
        for k, graph in enumerate(graphs)
    }
    if packed:
        with zipfile.ZipFile(root / "silver_dataset" / "scene_graph.zip", "w") as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
    else:
        for name, content in contents.items():
            path = root / "silver_dataset" / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)


def _prepare(root, **changes):
    return imagenome.prepare(options(root, **({"require_images": False} | changes)))


def test_there_are_36_regions_of_which_12_pairs():
    assert len(set(imagenome.REGIONS)) == 36
    assert sum(region.startswith("left ") for region in imagenome.REGIONS) == 12


@pytest.mark.parametrize("packed", [True, False])
def test_graphs_become_findings_of_regions_and_boxes(tmp_path, packed):
    attributes = [
        _attribute("right lower lung zone", ["anatomicalfinding|yes|lung opacity", "nlp|yes|abnormal"]),
        _attribute("right costophrenic angle", ["anatomicalfinding|no|pleural effusion", "severity|yes|mild"]),
        _attribute("trachea", ["tubesandlines|yes|endotracheal tube"]),
    ]
    _write(tmp_path, [_graph(0, attributes, [_object("right lung"), _object("trachea", 100, 0, 124, 56)])], packed)
    prepared = _prepare(tmp_path)
    assert findings_of(prepared) == [
        ("lung opacity", "yes", "right lower lung zone", "right"),
        ("pleural effusion", "no", "right costophrenic angle", "right"),
        ("endotracheal tube", "yes", "trachea", ""),
    ]
    assert prepared.findings["kind"].to_pylist() == ["finding", "finding", "device"]
    assert labels_of(prepared) == {_image(0): {"endotracheal tube": 1, "lung opacity": 1, "pleural effusion": 0}}
    box = prepared.boxes.to_pylist()[1]
    assert (box["finding"], box["kind"], box["frame"]) == ("trachea", "region", "square")
    assert (box["y"], box["h"]) == (0, 0.25)
    assert prepared.report.noticed == {"image with boxes of fewer than 29 regions": 1}
    assert prepared.manifest.column("patient") == [f"mimic-cxr:{SUBJECT}"]


def test_a_region_with_and_without_a_finding_is_uncertain(tmp_path):
    phrases = (["anatomicalfinding|yes|consolidation"], ["anatomicalfinding|no|consolidation"])
    attributes = [_attribute("left lung", *phrases), _attribute("right lung", *phrases[::-1])]
    _write(tmp_path, [_graph(0, attributes)])
    prepared = _prepare(tmp_path)
    assert {polarity for _, polarity, _, _ in findings_of(prepared)} == {"uncertain"}
    assert labels_of(prepared) == {_image(0): {"consolidation": None}}
    assert prepared.report.noticed["region with and without a finding, now uncertain"] == 2


def test_a_label_is_absent_only_where_a_region_lacks_it_and_none_has_it(tmp_path):
    attributes = [
        _attribute("left lung", ["anatomicalfinding|no|pneumothorax"], ["anatomicalfinding|no|lung opacity"]),
        _attribute("right lung", ["anatomicalfinding|yes|pneumothorax"]),
    ]
    _write(tmp_path, [_graph(0, attributes), _graph(1)])
    assert labels_of(_prepare(tmp_path)) == {
        _image(0): {"lung opacity": 0, "pneumothorax": 1},
        _image(1): {"lung opacity": None, "pneumothorax": None},
    }


def test_the_known_faults_of_boxes_are_counted(tmp_path):
    objects = [
        _object("right lung", x1=-12),
        _object("left lung", y2=260),
        _object("carina", 50, 50, 50, 60),
        _object("svc", 60, 50, 50, 60),
        _object("spine", 230, 50, 260, 60),
        _object("trachea") | {"x1": None},
        _object("left eye"),
        _object("right lung"),
    ]
    _write(tmp_path, [_graph(0, (), objects)])
    prepared = _prepare(tmp_path)
    assert [box["finding"] for box in prepared.boxes.to_pylist()] == ["right lung", "left lung"]
    assert prepared.report.noticed == {
        "box clipped to the image": 2,
        "box left out: no area within the image": 3,
        "box left out: not four finite numbers": 1,
        "box of an unknown region": 1,
        "second box of a region": 1,
        "image with boxes of fewer than 29 regions": 1,
    }


@pytest.mark.parametrize(
    "text",
    ["anatomicalfinding|perhaps|mass", "anatomicalfinding|yes|", "anatomicalfinding|yes", "disease||pneumonia"],
)
def test_attributes_that_can_not_be_read_are_counted(tmp_path, text):
    _write(tmp_path, [_graph(0, [_attribute("left lung", [text])])])
    prepared = _prepare(tmp_path)
    assert prepared.findings.num_rows == 0
    assert prepared.report.noticed["attribute left out: region or polarity not known"] == 1


def test_unknown_regions_are_counted(tmp_path):
    _write(tmp_path, [_graph(0, [_attribute("unknown", ["disease|yes|pneumonia"])])])
    assert _prepare(tmp_path).report.noticed["attribute left out: region or polarity not known"] == 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"image_id": 1}',
        b"\xff",
        b"[" * 100_000,
        json.dumps({"study_id": [], "image_id": ""}).encode(),
    ],
)
def test_damaged_graphs_are_dropped_and_counted_by_a_pseudonym(tmp_path, content):
    _write(tmp_path, [_graph(0), content])
    prepared = _prepare(tmp_path)
    assert prepared.report.dropped == {"unreadable scene graph": 1}
    assert DICOMS[1] not in json.dumps(prepared.report.as_json())
    assert counts_hold(prepared)


def test_images_of_the_gold_set_s_patients_are_avoided(tmp_path):
    _write(tmp_path, [_graph(0), _graph(1)], avoid=[1])
    prepared = _prepare(tmp_path)
    assert prepared.manifest.column("image") == [_image(0)]
    assert prepared.report.dropped == {"image to avoid (of a patient of the gold set)": 1}


@pytest.mark.parametrize("changes", [{"patient_id": "../../etc"}, {"image_id": "../x"}, {"study_id": "5"}])
def test_paths_are_made_of_identifiers_and_of_nothing_else(tmp_path, changes):
    _write(tmp_path, [_graph(0), _graph(1, **changes)])
    assert _prepare(tmp_path).report.dropped == {"invalid identifier": 1}


def test_the_own_split_is_that_of_its_tables(tmp_path):
    _write(tmp_path, [_graph(0), _graph(1, patient_id=10000033)], parts=("valid", "test", *["train"] * 6))
    assert _prepare(tmp_path, split="own").manifest.column("split") == ["validation", "test"]


COLUMNS = ("study_id", "image_id", "sent_loc", "row_id", "bbox", "categoryID", "label_name", "relation")


def test_the_table_of_attributes_serves_where_there_are_no_graphs(tmp_path):
    _write(tmp_path, [], avoid=[2])
    (tmp_path / "silver_dataset" / "scene_graph.zip").unlink()
    rows = [
        (STUDY, f"{DICOMS[0]}.dcm", "1", "1", "left lung", "anatomicalfinding", "lung opacity", "1"),
        (STUDY, f"{DICOMS[0]}.dcm", "2", "2", "left lung", "disease", "pneumonia", "0"),
        (STUDY, f"{DICOMS[0]}.dcm", "3", "3", "left lung", "nlp", "abnormal", "1"),
        (STUDY, f"{DICOMS[2]}.dcm", "4", "4", "left lung", "disease", "pneumonia", "0"),
        (STUDY, "not in the split.dcm", "5", "5", "left lung", "disease", "pneumonia", "0"),
    ]
    path = tmp_path / "silver_dataset" / "scene_tabular" / "attribute_relations_tabular.txt"
    write_csv(path, rows, COLUMNS, delimiter="\t")
    prepared = _prepare(tmp_path)
    assert findings_of(prepared) == [
        ("lung opacity", "yes", "left lung", "left"),
        ("pneumonia", "no", "left lung", "left"),
    ]
    assert prepared.manifest.column("image") == [_image(0)]
    assert sorted(prepared.report.dropped.values()) == [1, 1]
    assert counts_hold(prepared)


def test_without_graphs_and_table_the_error_names_the_table(tmp_path):
    _write(tmp_path, [])
    (tmp_path / "silver_dataset" / "scene_graph.zip").unlink()
    with pytest.raises(FileNotFoundError, match=r"attribute_relations_tabular\.txt"):
        _prepare(tmp_path)


def test_a_truncated_archive_of_graphs_is_refused(tmp_path):
    _write(tmp_path, [_graph(k) for k in range(8)])
    path = tmp_path / "silver_dataset" / "scene_graph.zip"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"scene_graph\.zip .* is damaged"):
        _prepare(tmp_path)
