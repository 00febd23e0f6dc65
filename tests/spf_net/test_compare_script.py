"""Runs side by side: seeds in one row, sources apart, what is missing said."""

import json
from pathlib import Path

import compare as script
import pytest


def results(value: float | None, images: int = 10) -> dict[str, object]:
    metrics = {name: {"value": value, "low": None, "high": None} for name in script.METRICS}
    return {"evaluation": {"all": {"images": images, "metrics": metrics}}}


def write(folder: Path, content: dict[str, object]) -> str:
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps(content))
    return str(folder)


def test_seeds_are_one_row_and_other_runs_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [
        write(tmp_path / "spf-seed0", results(0.5)),
        write(tmp_path / "spf-seed1", results(0.75, images=12)),
        write(tmp_path / "probe", results(0.25)),
        write(tmp_path / "nothing", results(None)),
    ]
    script.main(runs)
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    assert lines[0][:5] == ["run", "images from", "seeds", "test images", "macro AUROC"]
    assert lines[2] == ["spf", "all", "2", "10–12", *["0.625 (0.500–0.750)"] * 3]
    assert lines[3] == ["probe", "all", "1", "10", *["0.250"] * 3]
    assert lines[4] == ["nothing", "all", "1", "10", *["undefined"] * 3]


def test_a_folder_without_results_ends_with_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"error: .*results\.json does not exist"):
        script.main([str(tmp_path)])
