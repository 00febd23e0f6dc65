import pytest
from spf_data.sources import own_csv

from .layouts import counts_hold, labels_of, options, write_csv, write_image


def _row(number, **changes):
    return {"image": f"{number}.png", "patient": f"p{number}", "label:effusion": "1", "label:left nodule": ""} | changes


def _prepare(root, rows, **changes):
    for number in range(len(rows)):
        write_image(root / f"{number}.png")
    path = write_csv(root / "labels.csv", rows)
    return own_csv.prepare(options(root, **({"tables": path} if changes.pop("as_file", False) else {}) | changes))


@pytest.mark.parametrize("as_file", [True, False])
def test_two_columns_and_a_label_are_enough(tmp_path, as_file):
    prepared = _prepare(tmp_path, [_row(0), _row(1, **{"label:effusion": "0"})], as_file=as_file)
    assert labels_of(prepared) == {
        "0.png": {"effusion": 1, "left nodule": None},
        "1.png": {"effusion": 0, "left nodule": None},
    }
    assert prepared.report.noticed == {"no column view: every image taken as frontal": 1}


def test_the_optional_columns(tmp_path):
    more = {"study": "s", "view": "AP supine", "split": "val", "age": "61", "sex": "M", "source": "ward 3"}
    prepared = _prepare(tmp_path, [_row(0, **more)], split="own")
    row = prepared.manifest.table.to_pylist()[0]
    assert (row["study"], row["view"], row["split"]) == ("s", "AP supine", "validation")
    assert (row["age"], row["sex"], row["source"]) == (61, "M", "own/ward 3")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"label:effusion": "yes"}, "label other than 1, 0, -1 or empty"),
        ({"view": "side"}, "view must be one of ('PA', 'AP', 'AP supine', 'frontal', 'lateral') or empty"),
        ({"view": "lateral"}, "not frontal: lateral"),
        ({"view": ""}, "view not known"),
        ({"patient": " "}, "no patient"),
        ({"image": "../0.png"}, "path outside root"),
        ({"image": "/etc/passwd"}, "path outside root"),
        ({"image": "none.png"}, "missing image"),
    ],
)
def test_rows_that_can_not_be_used_are_counted(tmp_path, changes, reason):
    prepared = _prepare(tmp_path, [_row(0, view="PA"), _row(1, view="PA") | changes])
    assert prepared.report.dropped == {reason: 1}
    assert counts_hold(prepared)


def test_columns_that_nobody_reads_are_refused_rather_than_ignored(tmp_path):
    with pytest.raises(ValueError, match=r"columns \['effusion'\] are unknown; labels start with 'label:'"):
        _prepare(tmp_path, [_row(0, effusion="1")])


@pytest.mark.parametrize("row", [{"image": "0.png", "patient": "p"}, {"image": "0.png", "patient": "p", "label:": "1"}])
def test_labels_need_names(tmp_path, row):
    with pytest.raises(ValueError, match="label:<name> for each label"):
        _prepare(tmp_path, [row])


def test_a_part_that_is_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"parts must be among .* got \['holdout'\]"):
        _prepare(tmp_path, [_row(0, split="holdout")], split="own")
    assert len(_prepare(tmp_path, [_row(0, split="holdout")]).manifest) == 1
