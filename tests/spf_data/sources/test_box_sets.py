import json

import pytest
from spf_data.sources import mimic, ms_cxr, padchest, padchest_gr

from .layouts import PADCHEST_TABLE, counts_hold, findings_of, labels_of, options, padchest_row, write_csv, write_image

DICOM = "00000001-00000000-11111111-22222222-abcdef01"
PATH = f"files/p10/p10000032/s50414267/{DICOM}.jpg"


def _study(number, findings, **changes):
    study = {"StudyID": f"s{number}", "ImageID": f"{number}.png", "PreviousStudyID": None, "PreviousImageID": None}
    return study | {"findings": findings} | changes


ABNORMAL = {
    "sentence_en": "Left pleural effusion.",
    "sentence_es": "Derrame pleural izquierdo.",
    "abnormal": True,
    "boxes": [[0.5, 0.6, 0.9, 0.8]],
    "extra_boxes": [[0.5, 0.7, 0.8, 1.0]],
    "labels": ["pleural effusion", "pneumonia right side"],
    "locations": ["left", "loc basal"],
    "progression": None,
}
# Sentences without a finding lack the other keys.
NORMAL = {"sentence_en": "Normal heart.", "sentence_es": "Corazón normal.", "abnormal": False}


def _master(number, patient=None, split="test"):
    return {
        "StudyID": f"s{number}",
        "ImageID": f"{number}.png",
        "PatientID": patient or f"p{number}",
        "label": "pleural effusion",
        "label_group": "Pleural effusion",
        "locations": "['left']",
        "prior_study": "False",
        "split": split,
    }


def _grounded(root, studies, master, **changes):
    text = studies if isinstance(studies, str) else json.dumps(studies)
    (root / "grounded_reports_20240819.json").write_text(text)
    write_csv(root / "master_table.csv", master)
    return padchest_gr.prepare(options(root, **({"require_images": False} | changes)))


def test_grounded_reports_become_findings_with_boxes(tmp_path):
    prepared = _grounded(tmp_path, [_study(1, [ABNORMAL, NORMAL]), _study(2, [NORMAL])], [_master(1), _master(2)])
    assert labels_of(prepared) == {
        "1.png": {"pleural effusion": 1, "pneumonia": 1},
        "2.png": {"pleural effusion": 0, "pneumonia": 0},
    }
    assert findings_of(prepared) == [
        ("pleural effusion", "yes", "basal", "left"),
        ("pneumonia", "yes", "basal", "right"),
    ]
    boxes = prepared.boxes.to_pylist()
    assert [(box["finding"], box["laterality"]) for box in boxes] == [("pleural effusion", "left")] * 2 + [
        ("pneumonia", "right")
    ] * 2
    assert [boxes[0][key] for key in "xywh"] == pytest.approx([0.5, 0.6, 0.4, 0.2])
    assert counts_hold(prepared)


def test_patients_of_the_box_set_are_in_the_same_part_as_in_padchest(tmp_path):
    patients = [f"p{number}" for number in range(80)]
    rows = [padchest_row(f"{name}.png", PatientID=name, StudyID=name) for name in patients]
    write_csv(tmp_path / PADCHEST_TABLE, rows)
    fractions = {"require_images": False, "fractions": (0.7, 0.1, 0.2)}
    whole = padchest.prepare(options(tmp_path, **fractions)).manifest
    studies = [_study(number, [NORMAL]) for number in range(80)]
    few = _grounded(tmp_path, studies, [_master(number) for number in range(80)], **fractions).manifest
    part = dict(zip(whole.column("patient"), whole.column("split"), strict=True))
    assert [part[patient] for patient in few.column("patient")] == few.column("split")


@pytest.mark.parametrize(
    ("study", "reason"),
    [
        (_study(9, [NORMAL]), "study that is not in master_table.csv"),
        (_study(1, None), "study without a list of findings"),
        (_study(1, [NORMAL], ImageID="../1.png"), "invalid image name"),
        ("text", "study without a list of findings"),
        (None, "study without a list of findings"),
    ],
)
def test_studies_that_can_not_be_used_are_counted(tmp_path, study, reason):
    prepared = _grounded(tmp_path, [_study(2, [NORMAL]), study], [_master(1), _master(2)])
    assert prepared.report.dropped == {reason: 1}
    assert counts_hold(prepared)


@pytest.mark.parametrize("box", [[0.1, 0.2, 0.3], ["a", 0, 1, 1], [None, 0, 1, 1]])
def test_boxes_that_are_none_are_counted(tmp_path, box):
    finding = ABNORMAL | {"boxes": [box], "extra_boxes": None, "labels": ["nodule"]}
    prepared = _grounded(tmp_path, [_study(1, [finding, "no dictionary"])], [_master(1)])
    assert prepared.report.noticed == {"box left out: not four finite numbers": 1}
    assert prepared.boxes.num_rows == 0
    assert prepared.findings.num_rows == 1


def test_the_own_split_and_contradicting_rows_of_the_master_table(tmp_path):
    studies = [_study(1, [NORMAL]), _study(2, [NORMAL])]
    prepared = _grounded(tmp_path, studies, [_master(1, split="train"), _master(2)], split="own")
    assert prepared.manifest.column("split") == ["train", "test"]
    with pytest.raises(ValueError, match=r"master_table\.csv, row 2: the study is of another patient"):
        _grounded(tmp_path, studies, [_master(1), _master(1, patient="other")])


@pytest.mark.parametrize("text", ["", "{", '{"a": 1}', "[" * 100_000])
def test_json_that_is_no_list_of_studies_is_refused(tmp_path, text):
    with pytest.raises(ValueError, match=r"grounded_reports_20240819\.json"):
        _grounded(tmp_path, text, [_master(1)])


def _box(**changes):
    row = {
        "dicom_id": DICOM,
        "category_name": "Pleural Effusion",
        "label_text": "small left pleural effusion",
        "path": PATH,
        "x": "1272",
        "y": "1528",
        "w": "636",
        "h": "764",
        "image_width": "2544",
        "image_height": "3056",
        "split": "test",
    }
    return row | changes


def _phrases(root, rows, name="MS_CXR_Local_Alignment_v1.1.0.csv", **changes):
    write_csv(root / name, rows)
    return ms_cxr.prepare(options(root, **({"require_images": False} | changes)))


def test_rows_are_boxes_and_their_images_have_what_the_rows_name(tmp_path):
    rows = [
        _box(),
        _box(category_name="Pneumonia", label_text="consolidation", x="100", w="1000"),
        _box(label_text="x", x="1000"),
    ]
    prepared = _phrases(tmp_path, rows)
    assert labels_of(prepared) == {PATH: {"Pleural Effusion": 1, "Pneumonia": 1}}
    assert not any(prepared.manifest.table["complete"].to_pylist())
    boxes = prepared.boxes.to_pylist()
    assert [boxes[0][key] for key in "xywh"] == pytest.approx([0.5, 0.5, 0.25, 0.25])
    assert [box["laterality"] for box in boxes] == ["left", "right", ""]
    assert prepared.manifest.column("patient") == ["mimic-cxr:10000032"]


def test_the_older_table_has_no_split(tmp_path):
    row = _box()
    del row["split"]
    assert len(_phrases(tmp_path, [row], "MS_CXR_Local_Alignment_v1.0.0.csv").manifest) == 1
    with pytest.raises(ValueError, match="in no part of the data set's own split"):
        _phrases(tmp_path, [row], "MS_CXR_Local_Alignment_v1.0.0.csv", split="own")


@pytest.mark.parametrize("changes", [{"image_width": "0"}, {"image_height": ""}, {"x": "nan"}, {"h": "tall"}])
def test_boxes_without_numbers_are_counted(tmp_path, changes):
    prepared = _phrases(tmp_path, [_box(), _box(**changes)])
    assert prepared.report.noticed == {"box left out: not four finite numbers": 1}
    assert prepared.boxes.num_rows == 1


@pytest.mark.parametrize("path", ["", "../../etc/passwd", "files/p10/p1/s5/x.jpg", "/files/p10/p../s50414267/x.jpg"])
def test_a_path_of_another_form_is_not_used(tmp_path, path):
    other = "00000002-00000000-11111111-22222222-abcdef02"
    prepared = _phrases(tmp_path, [_box(), _box(dicom_id=other, path=path)])
    assert prepared.report.dropped == {"invalid identifier": 1}


def test_rows_that_disagree_on_an_image_are_dropped(tmp_path):
    other = "00000002-00000000-11111111-22222222-abcdef02"
    prepared = _phrases(tmp_path, [_box(), _box(dicom_id=other), _box(dicom_id=other, split="train")])
    assert prepared.report.dropped == {"rows of one image disagree on its path or part": 1}


def test_images_are_those_of_mimic_cxr_jpg(tmp_path):
    write_image(tmp_path / PATH)
    assert len(_phrases(tmp_path, [_box()], require_images=True).manifest) == 1
    assert set(mimic.LABELS) >= {"Pleural Effusion", "Pneumonia"}
