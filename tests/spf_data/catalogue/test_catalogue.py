import csv
import json

import catalogue as script
import pytest
import yaml
from spf_data.catalogue import CatalogueOptions, Policies, SelectionRule, make_catalogue, read_label_set
from spf_data.catalogue.tables import part_table, place_table
from spf_data.label_places import label_set_of
from spf_data.manifest import read_manifest, write_manifest, write_table

from .helpers import findings_table, manifest_of, rules

FILES = ["catalogue.csv", "label_set.yaml", "manifest.parquet", "tables.md", "unread.csv"]


def _findings():
    return findings_table(
        (0, "infiltrates", "basal", "left"),
        (1, "infiltrates", "basal", "right"),
        (2, "infiltrates"),
        (3, "pneumothorax", "left lower lobe", "left"),
        (4, "goiter"),
    )


def _options(**changes):
    return CatalogueOptions(**({"rule": SelectionRule(57, 1, 1)} | changes))


def _make(rows=6, options=None, **columns):
    return make_catalogue(manifest_of(rows, **columns), _findings(), rules(), options or _options())


def _labels(catalogue, name):
    return catalogue.manifest.table[f"label:{name}"].to_pylist()


def test_labels_of_a_data_set():
    catalogue = _make(complete=[True] * 5 + [False])
    assert _labels(catalogue, "left basal opacity") == [1, 0, None, 0, 0, None]
    assert _labels(catalogue, "right basal opacity") == [0, 1, None, 0, 0, None]
    assert _labels(catalogue, "pneumothorax in the left lower lobe") == [0, 0, 0, 1, 0, None]
    assert _labels(catalogue, "pneumothorax in the right lower lobe") == [0, 0, 0, 0, 0, None]
    # opacities nearly always at the base: no label of the side alone
    assert len(catalogue.label_set) == 9
    assert catalogue.values["left basal opacity"] == {"present": 1, "absent": 3, "not_known": 2}
    assert catalogue.any_present().images == 3
    assert catalogue.unread.findings == {"goiter": 1}


def test_children_and_other_views_are_left_out():
    catalogue = _make(
        age=[17.9, 18.0, None, 50.0, 50.0, 50.0], view=["PA", "AP", "AP supine", "frontal", "lateral", ""]
    )
    assert catalogue.manifest.column("image") == ["p1.png", "p2.png", "p3.png"]
    assert catalogue.left_out == {"not frontal": 2, "younger than 18": 1, "kept, of unknown age": 1}
    with pytest.raises(ValueError, match="no image is left"):
        _make(view=["lateral"] * 6)


def test_the_manifest_knows_its_labels_and_how_they_came_to_be():
    policies = Policies("negative", "unknown", "explained")
    catalogue = _make(options=_options(policies=policies))
    assert label_set_of(catalogue.manifest) == catalogue.label_set
    made = json.loads(catalogue.manifest.info["catalogue"])
    assert made["policies"] == {"uncertain": "negative", "not_mentioned": "unknown", "unplaced": "explained"}
    assert made["rule"] == {"labels": 57, "minimum_images": 1, "minimum_patients": 1}
    assert (made["level"], made["origin"], made["minimum_age"]) == ("image", "all", 18)
    assert catalogue.manifest.info["licence"] == "none"
    assert _labels(catalogue, "left basal opacity") == [1, None, None, None, None, None]


def _prepare(folder, manifest=None):
    write_manifest(folder / "own.parquet", manifest or manifest_of(6))
    write_table(folder / "own.findings.parquet", _findings())
    return [str(folder / "own.parquet"), "--minimum-images", "1", "--minimum-patients", "1"]


def test_the_command(tmp_path, capsys):
    assert script.main([*_prepare(tmp_path), "--output", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "6 frontal images of adults, 6 patients" in printed
    assert "1 findings and 0 places are not mapped" in printed
    assert "p0" not in printed
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES
    labels = yaml.safe_load((tmp_path / "out" / "label_set.yaml").read_text())
    assert f"label set {labels['hash'][:12]}" in printed
    first = labels["labels"][0]
    assert (first["name"], first["finding"], first["side"], first["zone"]) == (
        "right basal opacity",
        "opacity",
        "right",
        "base",
    )
    assert (first["present"], first["absent"], first["not_known"], first["images_as_said"]) == (1, 4, 1, 1)
    manifest = read_manifest(tmp_path / "out" / "manifest.parquet")
    assert list(manifest.label_names) == [label["name"] for label in labels["labels"]]
    with (tmp_path / "out" / "catalogue.csv").open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert {row["why_not"] for row in rows if not row["label"]} == {
        "no side",
        "nearly always base",
        "too rare on the other side",
    }
    assert {row["label"] for row in rows} >= {"left basal opacity", "pneumothorax in the left lower lobe"}


def test_the_same_input_gives_the_same_bytes(tmp_path):
    arguments = _prepare(tmp_path)
    for name in ("one", "two"):
        assert script.main([*arguments, "--output", str(tmp_path / name)]) == 0
    for file in FILES:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_the_label_set_of_one_data_set_for_another(tmp_path):
    arguments = _prepare(tmp_path)
    assert script.main([*arguments, "--output", str(tmp_path / "one")]) == 0
    given = ["--label-set", str(tmp_path / "one" / "label_set.yaml"), "--minimum-images", "6"]
    assert script.main([*arguments, *given, "--output", str(tmp_path / "two")]) == 0
    one, two = (read_manifest(tmp_path / name / "manifest.parquet") for name in ("one", "two"))
    assert one.label_names == two.label_names
    assert one.table.equals(two.table)
    assert json.loads(two.info["catalogue"])["rule"] is None
    assert json.loads(one.info["catalogue"])["label_set"] == json.loads(two.info["catalogue"])["label_set"]


def test_errors_of_the_command(tmp_path, capsys):
    arguments = _prepare(tmp_path)
    out = ["--output", str(tmp_path / "out")]
    assert script.main([str(tmp_path / "none.parquet"), *out]) == 2
    assert script.main([*arguments, *out, "--labels", "3"]) == 2
    assert script.main([*arguments, *out, "--label-set", str(tmp_path / "none.yaml")]) == 2
    arguments = _prepare(tmp_path, manifest_of(6, source="own"))
    assert script.main([*arguments, *out]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert ["none.parquet does not exist" in errors[0], "labels must be at least 7" in errors[1]] == [True, True]
    assert ["none.yaml" in errors[2], "source must be one of" in errors[3]] == [True, True]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version: 1\nhash: a\nlabels: []", "hash must be that of its labels"),
        ("version: 1\nhash: a\nlabels: [{finding: opacity, side: left, zone: attic}]", "none of the vocabulary's"),
        ("version: 1\nhash: a\nlabels: [{finding: opacity, side: none, zone: ''}]", "none of the vocabulary's"),
        ("version: 1\nlabels: [{finding: opacity}]", "is not a label set"),
        ("version: 1\nlabels: [", "is not a label set"),
        ("version: 2", "must be a mapping with version: 1"),
    ],
)
def test_a_damaged_label_set(tmp_path, text, message):
    (tmp_path / "set.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_label_set(tmp_path / "set.yaml", rules())


def test_tables():
    catalogue = _make()
    assert part_table(catalogue).splitlines()[2:] == [
        "| train | 2 | 2 | 2 | 2 |",
        "| validation | 2 | 2 | 1 | 1 |",
        "| test | 2 | 2 | 0 | 0 |",
    ]
    rows = place_table(catalogue, 2).splitlines()[2:]
    assert len(rows) == 1
    assert rows[0].startswith("| opacity | 1 / 1 / 0 | 1 |")
    assert len(place_table(catalogue, 1).splitlines()) == 4
