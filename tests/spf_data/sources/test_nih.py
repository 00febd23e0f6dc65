import pytest
from spf_data.sources import nih

from .layouts import counts_hold, findings_of, labels_of, options, write_csv, write_image

# The headers are broken at the commas within their column names, as in the files themselves.
_NAMES = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"
HEADER_2020 = f"{_NAMES},OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]".split(",")
HEADER_2017 = [*HEADER_2020, ""]
BOX_HEADER = ["Image Index", "Finding Label", "Bbox [x", "y", "w", "h]", "", "", ""]


def _row(name, labels="No Finding", patient="1", age="57", view="PA", extra=()):
    return [name, labels, "0", patient, age, "M", view, "2682", "2749", "0.143", "0.143", *extra]


def _prepare(root, rows, header=HEADER_2020, name="Data_Entry_2017_v2020.csv", zipped=False, **changes):
    write_csv(root / name, rows, header, zipped=zipped)
    return nih.prepare(options(root, **({"require_images": False} | changes)))


def test_labels_are_divided_at_bars_and_what_is_not_named_is_absent(tmp_path):
    prepared = _prepare(tmp_path, [_row("1_0.png", "Cardiomegaly|Effusion"), _row("1_1.png")])
    labels = labels_of(prepared)
    assert prepared.manifest.label_names == nih.LABELS
    assert [name for name, value in labels["1_0.png"].items() if value] == ["Cardiomegaly", "Effusion"]
    assert set(labels["1_1.png"].values()) == {0}
    assert findings_of(prepared)[1] == ("Effusion", "yes", "", "")


def test_the_older_table_with_its_empty_column_and_ages_with_units_is_read(tmp_path):
    rows = [
        _row("1.png", age="058Y", extra=[""]),
        _row("2.png", age="006M", extra=[""]),
        _row("3.png", age="414", extra=[""]),
    ]
    prepared = _prepare(tmp_path, rows, HEADER_2017, "Data_Entry_2017.csv")
    assert prepared.manifest.table["age"].to_pylist() == [58, 0.5, None]
    assert prepared.report.noticed["impossible age, now unknown"] == 1


def test_the_newer_table_is_taken_where_both_are_there(tmp_path):
    write_csv(tmp_path / "Data_Entry_2017.csv", [_row("old.png", extra=[""])], HEADER_2017)
    assert _prepare(tmp_path, [_row("new.png")]).manifest.column("image") == ["new.png"]


def test_images_are_found_in_the_archive_s_folders(tmp_path):
    write_image(tmp_path / "images_003" / "images" / "1.png")
    prepared = _prepare(tmp_path, [_row("1.png"), _row("2.png")], require_images=True)
    assert prepared.manifest.column("image") == ["images_003/images/1.png"]
    assert prepared.report.dropped == {"missing image": 1}
    assert counts_hold(prepared)


def test_no_finding_beside_a_finding_is_a_conflict(tmp_path):
    prepared = _prepare(tmp_path, [_row("1.png", "No Finding|Mass")])
    assert set(labels_of(prepared)["1.png"].values()) == {None}
    assert prepared.report.noticed["'No Finding' beside a finding: all labels unknown"] == 1
    assert prepared.findings.num_rows == 0


@pytest.mark.parametrize(("labels", "reason"), [("Efusion", "label that is none of the 14"), ("", "no label")])
def test_unknown_labels_are_not_taken_for_absent_ones(tmp_path, labels, reason):
    prepared = _prepare(tmp_path, [_row("1.png"), _row("2.png", labels)])
    assert prepared.report.dropped == {reason: 1}


def test_boxes_are_fractions_with_the_patient_s_side_and_the_labels_spelling(tmp_path):
    boxes = [
        ["1.png", "Infiltrate", "128", "256", "256", "512", "", "", ""],
        ["1.png", "Nodule", "768", "0", "128", "128"],
        ["1.png", "Cardiomegaly", "600", "400", "200", "200", "", "", ""],
        ["1.png", "Nodule", "1020", "10", "40", "40", "", "", ""],
        ["1.png", "Nodule", "10", "10", "0", "40", "", "", ""],
        ["2.png", "Nodule", "1", "1", "1", "1", "", "", ""],
    ]
    # The file in circulation has rows of 6 fields under a header of 9.
    write_csv(tmp_path / "BBox_List_2017.csv", boxes, BOX_HEADER, zipped=True)
    prepared = _prepare(tmp_path, [_row("1.png", "Infiltration|Nodule|Cardiomegaly")])
    kept = prepared.boxes.to_pylist()
    assert [(box["finding"], box["laterality"]) for box in kept] == [
        ("Infiltration", "right"),
        ("Nodule", "left"),
        ("Cardiomegaly", ""),
        ("Nodule", "left"),
    ]
    assert (kept[0]["x"], kept[0]["y"], kept[0]["w"], kept[0]["h"]) == (0.125, 0.25, 0.25, 0.5)
    assert prepared.report.noticed == {
        "box clipped to the image": 1,
        "box left out: no area within the image": 1,
        "box of an image that is not kept": 1,
    }
    assert ("Infiltration", "yes", "", "right") in findings_of(prepared)


def test_without_boxes_the_report_says_so(tmp_path):
    assert _prepare(tmp_path, [_row("1.png")]).report.noticed == {"no BBox_List_2017.csv: no boxes": 1}


def _official(tmp_path, train_val, test, **changes):
    (tmp_path / "train_val_list.txt").write_text("\n".join(train_val))
    (tmp_path / "test_list.txt").write_text("\n".join(test))
    rows = [_row(f"{patient}_{image}.png", patient=str(patient)) for patient in range(60) for image in range(2)]
    return _prepare(tmp_path, rows, split="own", **changes).manifest


def test_the_official_lists_give_the_test_part_and_training_is_divided_by_patient(tmp_path):
    names = [f"{patient}_{image}.png" for patient in range(60) for image in range(2)]
    manifest = _official(tmp_path, names[:100], names[100:119])
    parts = dict(zip(manifest.column("image"), manifest.column("split"), strict=True))
    assert {name for name, part in parts.items() if part == "test"} == set(names[100:119])
    assert {parts[name] for name in names[:100]} == {"train", "validation"}
    assert names[119] not in parts


def test_lists_that_overlap_leak_or_are_absent_are_refused(tmp_path):
    names = [f"{patient}_{image}.png" for patient in range(60) for image in range(2)]
    with pytest.raises(ValueError, match="1 images are in both official lists"):
        _official(tmp_path, names[:100], names[99:])
    with pytest.raises(ValueError, match="1 of 60 patients are in more than one part"):
        _official(tmp_path, names[:99], names[99:])
    (tmp_path / "test_list.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"test_list\.txt"):
        _prepare(tmp_path, [_row("1.png")], split="own")


def test_a_missing_column_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"v2020\.csv lacks the columns \['Finding Labels'\]"):
        _prepare(tmp_path, [["1.png"] + ["0"] * 9], [HEADER_2020[0], *HEADER_2020[2:]])
