import json

import prepare_data
import pyarrow.parquet as pq
import pytest
from spf_data.manifest import read_manifest
from spf_data.sources import LICENCES, SOURCES
from spf_data.sources.report import hashed

from .layouts import write_csv, write_image


def _write(root, patients=40):
    rows = []
    for number in range(patients):
        write_image(root / "images" / f"{number}.png", seed=number)
        rows.append({"image": f"images/{number}.png", "patient": f"Smith^{number}", "label:nodule": str(number % 2)})
    rows.append({"image": "images/none.png", "patient": "Smith^0", "label:nodule": "1"})
    write_csv(root / "labels.csv", rows)


def _run(root, *more):
    return prepare_data.main(["own", "--root", str(root), "--output", str(root / "out" / "own.parquet"), *more])


def test_one_command_writes_manifest_and_report_and_prints_the_licence(tmp_path, capsys):
    _write(tmp_path)
    assert _run(tmp_path) == 0
    printed = capsys.readouterr().out
    assert str(LICENCES["own"]) in printed
    assert "41 images read, 40 kept" in printed
    assert "1 dropped: missing image" in printed
    manifest = read_manifest(tmp_path / "out" / "own.parquet")
    report = json.loads((tmp_path / "out" / "own.report.json").read_text())
    assert report["images"] == {"read": 41, "kept": 40, "dropped": 1}
    assert report["dropped"] == {"missing image": {"count": 1, "where": [41]}}
    assert report["split_hash"] == manifest.info["split_hash"]
    assert report["labels"] == {"nodule": {"present": 20, "absent": 20, "not known": 0}}
    assert sum(part["patients"] for part in report["parts"].values()) == 40
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["own.parquet", "own.report.json"]


def test_neither_print_nor_report_names_a_patient(tmp_path, capsys):
    _write(tmp_path)
    _run(tmp_path)
    assert "Smith" not in capsys.readouterr().out + (tmp_path / "out" / "own.report.json").read_text()


def test_a_salt_hides_the_patients_in_the_manifest(tmp_path):
    _write(tmp_path)
    (tmp_path / "salt").write_text("a secret of some length\n")
    assert _run(tmp_path, "--patient-salt-file", str(tmp_path / "salt")) == 0
    content = (tmp_path / "out" / "own.parquet").read_bytes()
    assert not any("Smith" in patient for patient in read_manifest(tmp_path / "out" / "own.parquet").column("patient"))
    assert b"a secret" not in content


def test_the_same_arguments_give_the_same_bytes(tmp_path):
    _write(tmp_path)
    _run(tmp_path)
    first = (tmp_path / "out" / "own.parquet").read_bytes()
    _run(tmp_path)
    assert (tmp_path / "out" / "own.parquet").read_bytes() == first


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--split", "own"), "in no part of the data set's own split"),
        (("--fractions", "0.5", "0.5", "0.5"), "fractions must sum to 1"),
        (("--tables", "/nowhere"), "holds none of labels.csv"),
        (("--output", "manifest.csv"), "output must end with .parquet"),
        (("--patient-salt-file", "/nowhere"), "No such file"),
        (("--patient-salt-file", "{short}"), "at least 16 characters, got 5"),
    ],
)
def test_errors_are_one_line_and_leave_nothing(tmp_path, capsys, more, message):
    _write(tmp_path)
    (tmp_path / "short").write_text("short")
    assert _run(tmp_path, *(part.format(short=tmp_path / "short") for part in more)) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_findings_and_boxes_are_written_and_those_of_an_earlier_run_are_not_left(tmp_path):
    header = ["Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Gender"]
    header += ["View Position"]
    rows = [[f"{number}.png", "Nodule", "0", str(number), "50", "F", "PA"] for number in range(40)]
    write_csv(tmp_path / "Data_Entry_2017.csv", rows, header)
    boxes = write_csv(
        tmp_path / "BBox_List_2017.csv",
        [["1.png", "Nodule", "10", "10", "100", "100"]],
        ["Image Index", "Finding Label", "Bbox [x", "y", "w", "h]"],
    )
    output = tmp_path / "out" / "nih.parquet"
    arguments = ["nih", "--root", str(tmp_path), "--output", str(output), "--no-images"]
    assert prepare_data.main(arguments) == 0
    assert pq.read_table(output.with_suffix(".boxes.parquet")).num_rows == 1
    assert pq.read_table(output.with_suffix(".findings.parquet")).num_rows == 41
    boxes.unlink()
    assert prepare_data.main(arguments) == 0
    assert not output.with_suffix(".boxes.parquet").exists()


def test_every_source_has_a_licence_and_a_help_text(capsys):
    assert set(SOURCES) == set(LICENCES)
    for source in SOURCES:
        with pytest.raises(SystemExit) as caught:
            prepare_data.main([source, "--help"])
        assert caught.value.code == 0
        assert LICENCES[source].citation[:20] in " ".join(capsys.readouterr().out.split())


def test_pseudonyms_are_short_stable_and_differ():
    assert hashed("10000032") == hashed("10000032") != hashed("10000033")
    assert "10000032" not in hashed("10000032")


@pytest.mark.parametrize(
    "arguments",
    [("nih", "--label-reports"), ("nih", "--uncertain", "positive"), ("own", "--not-mentioned", "negative"), ("none",)],
)
def test_options_that_a_source_does_not_understand_are_refused(capsys, arguments):
    source, *more = arguments
    with pytest.raises(SystemExit) as caught:
        prepare_data.main([source, "--root", ".", "--output", "x.parquet", *more])
    assert caught.value.code == 2
    assert (more or [source])[0] in capsys.readouterr().err


def test_policies_reach_the_adapter(tmp_path):
    rows = [{"image": f"{number}.png", "patient": str(number), "label:nodule": "-1"} for number in range(40)]
    write_csv(tmp_path / "labels.csv", rows)
    assert _run(tmp_path, "--no-images", "--uncertain", "positive", "--seed", "3") == 0
    manifest = read_manifest(tmp_path / "out" / "own.parquet")
    assert set(manifest.labels().ravel()) == {1}
    assert json.loads(manifest.info["options"])["seed"] == 3
