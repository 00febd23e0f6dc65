"""The script, from trained runs to the files it leaves."""

import json
from pathlib import Path

import evaluate
import pytest
import train

CXR_ZONES = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "cxr-zones"
NETWORK = ["--extractor.widths=[4]", "--extractor.num_maps=3", "--extractor.downsample=8", "--head.code_size=2"]
TINY = [*NETWORK, "--training.epochs=1", "--training.accelerator=cpu", "--training.resamples=10"]
PHANTOM = ["--data.num_images=80", "--data.image_size=64", *TINY]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    train.main([*PHANTOM, "--output", str(folder / "spf")])
    train.main([*PHANTOM, "--head=square_pooling", "--frame=lungs", "--output", str(folder / "square")])
    train.main([*PHANTOM, "--data.seed=1", "--output", str(folder / "other" / "spf")])
    return [folder / "spf", folder / "square", folder / "other" / "spf"]


def test_two_runs_become_one_report(runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*map(str, runs[:2]), "--examples=2", "--pointing-images=5", "--accelerator=cpu"]
    evaluate.main([*arguments, f"--output={tmp_path / 'first'}"])
    printed = capsys.readouterr().out
    assert "| spf " in printed
    assert "| square " in printed
    assert {path.name for path in (tmp_path / "first").iterdir()} == {"results.json", "results.md", "report.html"}

    document = json.loads((tmp_path / "first" / "results.json").read_text())
    for name, folder in (("spf", runs[0]), ("square", runs[1])):
        found = document["runs"][name]["evaluation"]["all"]
        trained = json.loads((folder / "results.json").read_text())["evaluation"]["all"]
        for metric, estimate in trained["metrics"].items():
            assert found["metrics"][metric] == pytest.approx(estimate, abs=1e-6)
        assert found["side_calls"]["sided_labels"] == 48
        game = document["runs"][name]["pointing_game"]
        assert game["images"] == 5
        assert 0 < game["chance"] < 0.5
        assert len(document["runs"][name]["thresholds"]) == 57

    page = (tmp_path / "first" / "report.html").read_text()
    assert page.count("<img") == 2 * 3
    assert "Subgroups" in (tmp_path / "first" / "results.md").read_text()
    evaluate.main([*arguments, f"--output={tmp_path / 'second'}"])
    for name in ("results.json", "results.md", "report.html"):
        assert (tmp_path / "second" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()


def test_runs_on_other_data_are_refused(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"^error: runs must have the same data settings"):
        evaluate.main([str(runs[0]), str(runs[2]), f"--output={tmp_path}"])
    assert not list(tmp_path.iterdir())


def test_a_run_keeps_its_own_results(runs: list[Path]) -> None:
    before = (runs[0] / "results.json").read_bytes()
    with pytest.raises(SystemExit, match=r"^error: output must not be the folder of a run"):
        evaluate.main([str(runs[0]), f"--output={runs[0] / '..' / 'spf'}"])
    assert (runs[0] / "results.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing"], "does not exist"),
        (["missing", "--examples=-1"], "examples must not be negative, got -1"),
        (["missing", "missing"], "runs must be given once each"),
    ],
)
def test_an_error_is_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=rf"^error: [^\n]*{message}"):
        evaluate.main([*arguments, f"--output={tmp_path}"])


@pytest.mark.skipif(not CXR_ZONES.is_dir(), reason="needs ../shared/data/cxr-zones")
def test_radiographs_have_subgroups_and_boxes_to_point_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--data=cxr-zones", f"--data.root={CXR_ZONES}", "--data.on_error=skip", "--data.image_size=64"]
    train.main([*data, *TINY, "--output", str(tmp_path / "run")])
    evaluate.main([str(tmp_path / "run"), f"--output={tmp_path / 'out'}", "--pointing-images=10", "--accelerator=cpu"])
    assert "masks of the findings" in capsys.readouterr().out
    (run,) = json.loads((tmp_path / "out" / "results.json").read_text())["runs"].values()
    groups = {(group["attribute"], group["name"]): group for group in run["subgroups"]}
    assert groups["sex", "F"]["images"] >= 20
    assert groups["sex", "F"]["macro_auroc"]["value"] is not None
    assert groups["view", "PA"]["images"] >= 20
    assert set(run["evaluation"]) == {"all", "cohen-covid", "nih-chestxray14"}
