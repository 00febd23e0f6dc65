import zipfile

import pytest
from spf_data.findings import Finding
from spf_data.sources import mimic, mimic_files

from .layouts import counts_hold, findings_of, labels_of, options, write_csv, write_image

DICOMS = [f"{k:08x}-00000000-11111111-22222222-abcdef0{k}" for k in range(8)]


def _metadata(k, subject="10000032", study="50414267", view="PA"):
    return {
        "dicom_id": DICOMS[k],
        "subject_id": subject,
        "study_id": study,
        "PerformedProcedureStepDescription": "CHEST (PA AND LAT)",
        "ViewPosition": view,
        "Rows": "3056",
        "Columns": "2544",
        "StudyDate": "21800506",
        "StudyTime": "213014.531",
        "ProcedureCodeSequence_CodeMeaning": "CHEST (PA AND LAT)",
        "ViewCodeSequence_CodeMeaning": "postero-anterior",
        "PatientOrientationCodeSequence_CodeMeaning": "Erect",
    }


def _chexpert(study="50414267", subject="10000032", **values):
    return {"subject_id": subject, "study_id": study} | dict.fromkeys(mimic.LABELS, "") | values


def _write(root, metadata, chexpert, parts=None, radiologist=None, zipped=True):
    write_csv(root / "mimic-cxr-2.0.0-metadata.csv", metadata, zipped=zipped)
    write_csv(root / "mimic-cxr-2.0.0-chexpert.csv", chexpert, zipped=zipped)
    split = [
        {"dicom_id": row["dicom_id"], "study_id": row["study_id"], "subject_id": row["subject_id"], "split": part}
        for row, part in zip(metadata, parts or ["train"] * len(metadata), strict=True)
    ]
    write_csv(root / "mimic-cxr-2.0.0-split.csv", split, zipped=zipped)
    if radiologist is not None:
        write_csv(root / "mimic-cxr-2.1.0-test-set-labeled.csv", radiologist)


def _prepare(root, **changes):
    return mimic.prepare(options(root, **({"require_images": False} | changes)))


def _image(k, subject="10000032", study="50414267"):
    return f"files/p10/p{subject}/s{study}/{DICOMS[k]}.jpg"


@pytest.mark.parametrize("zipped", [True, False])
def test_tables_are_joined_and_only_frontal_images_kept(tmp_path, zipped):
    views = ["PA", "AP", "LATERAL", "LL", ""]
    metadata = [_metadata(k, view=view) for k, view in enumerate(views)]
    _write(tmp_path, metadata, [_chexpert(**{"Edema": "1.0", "Pneumonia": "0.0", "Fracture": "-1.0"})], zipped=zipped)
    prepared = _prepare(tmp_path)
    assert prepared.manifest.column("image") == [_image(0), _image(1)]
    labels = labels_of(prepared)[_image(0)]
    known = {name: value for name, value in labels.items() if value is not None}
    assert set(labels) == set(mimic.LABELS)
    assert known == {"Edema": 1, "Pneumonia": 0}
    assert prepared.report.dropped == {"not frontal: lateral": 2, "view not known": 1}
    assert prepared.manifest.column("patient") == ["mimic-cxr:10000032"] * 2
    assert counts_hold(prepared)


def test_labels_become_findings_of_the_study_with_their_polarity(tmp_path):
    _write(tmp_path, [_metadata(0), _metadata(1)], [_chexpert(Edema="1.0", Fracture="-1.0", Pneumonia="0.0")])
    prepared = _prepare(tmp_path)
    assert sorted(findings_of(prepared)) == [
        ("Edema", "yes", "", ""),
        ("Fracture", "uncertain", "", ""),
        ("Pneumonia", "no", "", ""),
    ]
    assert set(prepared.findings["level"].to_pylist()) == {"study"}


def test_policies_for_uncertain_and_not_mentioned_labels(tmp_path):
    _write(tmp_path, [_metadata(0)], [_chexpert(Edema="-1.0")])
    labels = labels_of(_prepare(tmp_path, uncertain="positive", not_mentioned="negative"))[_image(0)]
    assert labels == dict.fromkeys(mimic.LABELS, 0) | {"Edema": 1}
    assert '"uncertain": "positive"' in _prepare(tmp_path, uncertain="positive").manifest.info["options"]


def test_studies_without_labels_stay_unknown_whatever_the_policy(tmp_path):
    _write(tmp_path, [_metadata(0)], [_chexpert(study="50000001")])
    prepared = _prepare(tmp_path, not_mentioned="negative")
    assert set(labels_of(prepared)[_image(0)].values()) == {None}
    assert prepared.report.noticed["image of a study without CheXpert labels: all unknown"] == 1


def test_radiologists_labels_replace_chexpert_s(tmp_path):
    row = {"study_id": "50414267.0"} | dict.fromkeys(mimic.LABELS, "") | {"Edema": "0.0"}
    del row["Lung Opacity"]
    row["Airspace Opacity"] = "1.0"
    _write(tmp_path, [_metadata(0)], [_chexpert(Edema="1.0", Fracture="1.0")], radiologist=[row])
    prepared = _prepare(tmp_path)
    known = {name: value for name, value in labels_of(prepared)[_image(0)].items() if value is not None}
    assert known == {"Edema": 0, "Lung Opacity": 1}
    assert prepared.report.noticed["study with labels by radiologists"] == 1
    assert set(prepared.findings["rule"].to_pylist()) == {"label: radiologist"}


def test_two_rows_of_one_study_that_disagree_are_unknown(tmp_path):
    _write(tmp_path, [_metadata(0)], [_chexpert(Edema="1.0", Fracture="1.0"), _chexpert(Edema="0.0", Fracture="1.0")])
    prepared = _prepare(tmp_path, not_mentioned="negative", uncertain="positive")
    labels = labels_of(prepared)[_image(0)]
    assert (labels["Edema"], labels["Fracture"], labels["Pneumonia"]) == (None, 1, 0)
    assert prepared.report.noticed["conflicting labels of one study, now unknown"] == 1
    assert ("Edema", "uncertain", "", "") in findings_of(prepared)


def test_an_unknown_label_value_is_refused_with_its_row(tmp_path):
    _write(tmp_path, [_metadata(0)], [_chexpert(), _chexpert(study="50000001", Edema="2.0")])
    with pytest.raises(ValueError, match=r"chexpert\.csv, row 2: Edema: a label must be"):
        _prepare(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"subject_id": "../../x"},
        {"subject_id": "1000003"},
        {"study_id": "5041426/"},
        {"dicom_id": "../" + DICOMS[1]},
        {"dicom_id": DICOMS[1].upper() + "X"},
        {"subject_id": ""},
        {"subject_id": "١٠٠٠٠٠٣٢"},
    ],
)
def test_paths_are_made_of_identifiers_and_of_nothing_else(tmp_path, changes):
    _write(tmp_path, [_metadata(0), _metadata(1) | changes], [_chexpert()])
    prepared = _prepare(tmp_path)
    assert prepared.report.dropped == {"invalid identifier": 1}
    assert prepared.manifest.column("image") == [_image(0)]


def test_the_own_split_is_used_and_its_faults_are_errors(tmp_path):
    metadata = [_metadata(0), _metadata(1, "10000033", "50000002"), _metadata(2, "10000034", "50000003")]
    _write(tmp_path, metadata, [_chexpert()], ["train", "validate", "test"])
    assert _prepare(tmp_path, split="own").manifest.column("split") == ["train", "validation", "test"]
    _write(tmp_path, [_metadata(0), _metadata(1)], [_chexpert()], ["train", "test"])
    with pytest.raises(ValueError, match="1 of 1 patients are in more than one part"):
        _prepare(tmp_path, split="own")
    _write(tmp_path, [_metadata(0), _metadata(0)], [_chexpert()], ["train", "test"])
    with pytest.raises(ValueError, match=r"split\.csv\.gz, row 2: the image is in another part"):
        _prepare(tmp_path)


def test_tables_that_name_two_subjects_are_not_believed(tmp_path):
    _write(tmp_path, [_metadata(0), _metadata(1)], [_chexpert()])
    split = [{"dicom_id": DICOMS[1], "study_id": "50414267", "subject_id": "19999999", "split": "train"}]
    write_csv(tmp_path / "mimic-cxr-2.0.0-split.csv", split, zipped=True)
    prepared = _prepare(tmp_path)
    assert prepared.report.dropped == {"metadata and split name two subjects": 1}


def test_images_are_looked_for_and_missing_ones_counted(tmp_path):
    _write(tmp_path / "tables", [_metadata(0), _metadata(1)], [_chexpert()])
    write_image(tmp_path / "root" / _image(0))
    prepared = _prepare(tmp_path / "root", tables=tmp_path / "tables", require_images=True)
    assert prepared.manifest.column("image") == [_image(0)]
    assert prepared.report.dropped == {"missing image": 1}


def test_a_table_that_is_absent_or_lacks_a_column_is_named(tmp_path):
    _write(tmp_path, [_metadata(0)], [_chexpert()])
    row = _metadata(0)
    del row["ViewPosition"]
    write_csv(tmp_path / "mimic-cxr-2.0.0-metadata.csv", [row])
    with pytest.raises(ValueError, match=r"metadata\.csv lacks the columns \['ViewPosition'\]"):
        _prepare(tmp_path)
    (tmp_path / "mimic-cxr-2.0.0-chexpert.csv.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"chexpert\.csv"):
        _prepare(tmp_path)


REPORT = "                                 FINAL REPORT\n FINDINGS:  Small left effusion.\n"


def _label(text):
    return [Finding("finding", "yes", "pleural effusion", laterality="left", span=(0, len(text)), rule="test")]


@pytest.mark.parametrize("packed", [True, False])
def test_reports_are_read_from_their_zip_file_or_folder(tmp_path, packed):
    _write(tmp_path, [_metadata(0), _metadata(1, "10000033", "50000002")], [_chexpert()])
    names = {"files/p10/p10000032/s50414267.txt": REPORT.encode(), "files/p10/p10000099/s50000009.txt": b"other"}
    if packed:
        with zipfile.ZipFile(tmp_path / "mimic-cxr-reports.zip", "w") as archive:
            for name, content in names.items():
                archive.writestr(name, content)
    else:
        for name, content in names.items():
            path = tmp_path / "mimic-cxr-reports" / name
            path.parent.mkdir(parents=True)
            path.write_bytes(content)
    prepared = _prepare(tmp_path, label_report=_label)
    assert findings_of(prepared) == [("pleural effusion", "yes", "", "left")]
    assert prepared.findings["span_end"].to_pylist() == [len(REPORT)]
    assert prepared.report.noticed["study without a report"] == 1


def test_reports_in_latin_1_are_read_and_counted(tmp_path):
    _write(tmp_path, [_metadata(0)], [_chexpert()])
    path = tmp_path / "elsewhere" / "files" / "p10" / "p10000032" / "s50414267.txt"
    path.parent.mkdir(parents=True)
    path.write_bytes("José".encode("latin-1"))
    prepared = _prepare(tmp_path, label_report=_label, reports=tmp_path / "elsewhere")
    assert prepared.findings["span_end"].to_pylist() == [4]
    assert prepared.report.noticed["report not in UTF-8, read as Latin-1"] == 1


def test_reports_that_are_absent_or_truncated_are_an_error(tmp_path):
    _write(tmp_path, [_metadata(0)], [_chexpert()])
    with pytest.raises(FileNotFoundError, match=r"mimic-cxr-reports\.zip"):
        _prepare(tmp_path, label_report=_label)
    (tmp_path / "mimic-cxr-reports.zip").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(ValueError, match="is damaged"):
        _prepare(tmp_path, label_report=_label)


def test_no_report_is_read_when_nobody_labels_it(tmp_path):
    _write(tmp_path, [_metadata(0)], [_chexpert()])
    (tmp_path / "mimic-cxr-reports.zip").write_bytes(b"not a zip file")
    assert len(_prepare(tmp_path).manifest) == 1


def test_views_keep_their_names():
    assert [mimic_files.view(text) for text in ("AP", "PA", "LL", "LATERAL", "LPO", "")] == [
        "AP",
        "PA",
        "lateral",
        "lateral",
        "lpo",
        "",
    ]
