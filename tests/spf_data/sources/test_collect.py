import json

import numpy as np
import pytest
from spf_data.findings import Finding
from spf_data.manifest import BOX_SCHEMA
from spf_data.sources.collect import Collector, FindingRecord, ImageRecord, RowBuffer
from spf_data.sources.options import PrepareOptions

from .layouts import counts_hold, findings_of, labels_of, options, write_image


def _collector(tmp_path, **changes):
    return Collector("own", options(tmp_path, require_images=False, **changes))


def _record(image="1.png", **changes):
    return ImageRecord(**({"where": 1, "image": image, "patient": "p", "study": "s", "view": "PA"} | changes))


def test_what_is_not_said_is_absent_where_the_labels_are_complete_and_else_unknown(tmp_path):
    collector = _collector(tmp_path)
    collector.add(_record("1.png", labels={"a": 1}))
    collector.add(_record("2.png", labels={"b": 1}, complete=False))
    collector.add(_record("3.png", labels={"b": None}))
    assert labels_of(collector.finish()) == {
        "1.png": {"a": 1, "b": 0},
        "2.png": {"a": None, "b": 1},
        "3.png": {"a": 0, "b": None},
    }


def test_an_image_twice_with_the_same_labels_counts_once(tmp_path):
    collector = _collector(tmp_path)
    assert collector.add(_record(labels={"a": 1, "b": 0}))
    assert not collector.add(_record(labels={"a": 1}))
    prepared = collector.finish()
    assert prepared.report.dropped == {"same image as an earlier row": 1}
    assert not prepared.report.noticed
    assert counts_hold(prepared)


def test_conflicting_labels_of_one_image_become_unknown_and_are_counted(tmp_path):
    collector = _collector(tmp_path)
    collector.add(_record(labels={"a": 1, "b": 0}))
    collector.add(_record(labels={"a": 0, "b": 0}))
    prepared = collector.finish()
    assert labels_of(prepared) == {"1.png": {"a": None, "b": 0}}
    assert prepared.report.noticed == {"conflicting labels of one image, now unknown": 1}
    assert counts_hold(prepared)


def test_an_image_of_two_patients_is_dropped_with_its_findings(tmp_path):
    collector = _collector(tmp_path)
    collector.add(_record("1.png", patient="p"))
    collector.add_finding(FindingRecord("image", "1.png", "s", "effusion"))
    collector.add_box("1.png", "finding", "effusion", "", "image", (0.1, 0.1, 0.2, 0.2))
    collector.add(_record("1.png", patient="q"))
    collector.add(_record("2.png"))
    prepared = collector.finish()
    assert prepared.manifest.column("image") == ["2.png"]
    assert prepared.findings.num_rows == prepared.boxes.num_rows == 0
    assert prepared.report.dropped["one image, two patients or parts"] == 1
    assert counts_hold(prepared)


def test_findings_of_a_study_stay_while_one_of_its_images_does(tmp_path):
    collector = _collector(tmp_path)
    collector.add(_record("1.png", study="kept"))
    for study in ("kept", "gone"):
        collector.add_finding(FindingRecord("study", "", study, study))
    assert findings_of(collector.finish()) == [("kept", "yes", "", "")]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"patient": ""}, "no patient"),
        ({"view": "lateral"}, "not frontal: lateral"),
        ({"view": ""}, "view not known"),
    ],
)
def test_unusable_images_are_counted_by_reason(tmp_path, changes, reason):
    collector = _collector(tmp_path)
    collector.add(_record("1.png"))
    assert not collector.add(_record("2.png", where=7, **changes))
    prepared = collector.finish()
    assert prepared.report.as_json()["dropped"] == {reason: {"count": 1, "where": [7]}}
    assert counts_hold(prepared)


def test_every_view_is_kept_when_asked_for(tmp_path):
    collector = _collector(tmp_path, views="all")
    for view in ("PA", "lateral", ""):
        collector.add(_record(f"{view}.png", view=view))
    assert len(collector.finish().manifest) == 3


def test_images_are_looked_for_when_they_are_required(tmp_path):
    write_image(tmp_path / "1.png")
    (tmp_path / "2.png").touch()
    collector = Collector("own", options(tmp_path))
    for image in ("1.png", "2.png", "3.png", "../4.png", "/etc/passwd"):
        collector.add(_record(image))
    prepared = collector.finish()
    assert prepared.manifest.column("image") == ["1.png"]
    assert prepared.report.dropped == {"empty image file": 1, "missing image": 1, "path outside root": 2}


@pytest.mark.parametrize("image", ["../1.png", "a/../../1.png", "/1.png", "a\\1.png", "", "."])
def test_paths_may_not_lead_out_even_if_nobody_looks_for_the_images(tmp_path, image):
    collector = _collector(tmp_path)
    collector.add(_record("2.png"))
    collector.add(_record(image))
    assert collector.finish().report.dropped == {"path outside root": 1}


def test_no_identifier_is_in_a_report_in_the_clear(tmp_path):
    collector = _collector(tmp_path)
    collector.add(_record("1.png"))
    collector.drop("unreadable", "p10000032/s50414267.json")
    text = json.dumps(collector.finish().report.as_json())
    assert "p10000032" not in text
    assert '"#' in text


def test_the_salt_renames_patients_and_leaves_them_in_their_parts(tmp_path):
    def prepare(salt):
        collector = Collector("own", PrepareOptions(tmp_path, require_images=False, patient_salt=salt))
        for number in range(60):
            collector.add(_record(f"{number}.png", patient=f"patient-{number // 2}"))
        return collector.finish().manifest

    plain, salted, other = prepare(""), prepare("a secret of some length"), prepare("another secret")
    assert plain.column("patient")[0] == "own:patient-0"
    assert "patient" not in "".join(salted.column("patient"))
    assert len(set(salted.column("patient"))) == 30
    assert set(salted.column("patient")).isdisjoint(other.column("patient"))
    assert plain.column("split") == salted.column("split")
    assert "secret" not in json.dumps(salted.info)


def test_a_data_set_s_own_split_that_leaks_is_refused(tmp_path):
    collector = _collector(tmp_path, split="own")
    collector.add(_record("1.png", part="train"))
    collector.add(_record("2.png", part="test"))
    with pytest.raises(ValueError, match="1 of 1 patients are in more than one part"):
        collector.finish()


def test_images_outside_the_data_set_s_own_split_are_counted(tmp_path):
    collector = _collector(tmp_path, split="own")
    collector.add(_record("1.png", part="validate"))
    collector.add(_record("2.png"))
    prepared = collector.finish()
    assert prepared.manifest.column("split") == ["validation"]
    assert prepared.report.dropped == {"in no part of the data set's own split": 1}


def test_nothing_left_is_an_error_that_says_why(tmp_path):
    collector = _collector(tmp_path)
    collector.add(_record(view="lateral"))
    with pytest.raises(ValueError, match=r"no image of own can be used; dropped: \{'not frontal: lateral': 1\}"):
        collector.finish()


def test_a_root_that_is_no_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="root must be"):
        Collector("own", options(tmp_path / "missing"))


@pytest.mark.parametrize(
    ("box", "notice"),
    [
        ((-0.1, 0.2, 0.3, 0.3), "box clipped to the image"),
        ((0.9, 0.9, 0.3, 0.3), "box clipped to the image"),
        ((0.2, 0.2, 0.0, 0.3), "box left out: no area within the image"),
        ((0.2, 0.2, 0.3, -0.1), "box left out: no area within the image"),
        ((1.2, 0.2, 0.3, 0.3), "box left out: no area within the image"),
        ((float("nan"), 0.2, 0.3, 0.3), "box left out: not four finite numbers"),
        ((0.1, 0.2, float("inf"), 0.3), "box left out: not four finite numbers"),
    ],
)
def test_boxes_are_clipped_or_left_out_and_counted(tmp_path, box, notice):
    collector = _collector(tmp_path)
    collector.add(_record())
    collector.add_box("1.png", "finding", "effusion", "", "image", box)
    prepared = collector.finish()
    assert prepared.report.noticed == {notice: 1}
    assert prepared.boxes.num_rows == ("clipped" in notice)
    for kept in prepared.boxes.to_pylist():
        assert min(kept["x"], kept["y"]) >= 0
        assert max(kept["x"] + kept["w"], kept["y"] + kept["h"]) <= 1 + 1e-6


def test_what_a_report_labeller_finds_keeps_its_span_and_rule(tmp_path):
    collector = _collector(tmp_path)
    collector.add(_record())
    finding = Finding("finding", "no", "pleural effusion", ("base",), "left", "mild", (3, 9), "no +")
    collector.add_report("s", [finding])
    row = collector.finish().findings.to_pylist()[0]
    assert (row["level"], row["finding"], row["polarity"]) == ("study", "pleural effusion", "no")
    assert (row["anatomy"], row["laterality"], row["modifiers"]) == ("base", "left", "mild")
    assert (row["span_start"], row["span_end"], row["rule"], row["kind"]) == (3, 9, "report: no +", "finding")


def test_rows_survive_being_packed(monkeypatch):
    monkeypatch.setattr("spf_data.sources.collect._CHUNK", 3)
    buffer = RowBuffer(BOX_SCHEMA)
    numbers = np.random.default_rng(0).random((10, 4)).astype(np.float32)
    for row in numbers:
        buffer.add(("i", "finding", "f", "", "image", *row.tolist()))
    table = buffer.table()
    assert np.array_equal(np.stack([table[name].to_numpy() for name in "xywh"], axis=1), numbers)


@pytest.mark.parametrize("change", [{"views": "side"}, {"split": "random"}, {"uncertain": "0"}, {"not_mentioned": ""}])
def test_invalid_options_are_refused(tmp_path, change):
    with pytest.raises(ValueError, match=next(iter(change))):
        PrepareOptions(root=tmp_path, **change)
