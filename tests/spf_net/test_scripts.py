"""The two scripts, from the command line to the files they leave."""

import json
from pathlib import Path

import demo
import pytest
import train
from spf_net.heads import DEMO_HEADS

CXR_ZONES = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "cxr-zones"
TINY_NETWORK = ["--extractor.widths=[4]", "--extractor.num_maps=3", "--extractor.downsample=8", "--head.code_size=2"]
TINY = [
    *TINY_NETWORK,
    "--data.image_size=64",
    "--training.epochs=1",
    "--training.accelerator=cpu",
    "--training.resamples=10",
]


def test_train_prints_a_table_and_writes_the_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train.main(["--data", "phantom", "--data.num_images", "80", *TINY, "--output", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "phantom: 80 images, 57 labels; dropped: 0" in printed
    assert "macro AUROC" in printed
    assert "of 57" in printed
    assert (tmp_path / "results.md").read_text() in printed
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["epochs"] == 1
    assert len(results["evaluation"]["all"]["labels"]) == 57
    train.main(["--data.num_images=80", *TINY, "--output", str(tmp_path), "--training.epochs=2", "--resume"])
    assert "resumed after epoch 1" in capsys.readouterr().out


def test_train_in_maps_mode_needs_no_extractor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--data.mode=maps", "--data.num_images=80", *TINY, "--extractor", "none", "--output", str(tmp_path)]
    train.main(arguments)
    # 18 maps of 8x8: encoders and decoders of 2 numbers with their biases, and the classifier.
    expected = 18 * (2 * 64 * 2 + 2 + 64) + 18 * 2 * 57 + 57
    assert f"{expected:,} parameters" in capsys.readouterr().out


@pytest.mark.skipif(not CXR_ZONES.is_dir(), reason="needs ../shared/data/cxr-zones")
def test_train_on_radiographs_reports_each_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--data", "cxr-zones", "--data.root", str(CXR_ZONES), "--data.on_error", "skip"]
    train.main([*data, *TINY, "--output", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "dropped: 818 rows (no zone labels)" in printed
    for subset in ("| all ", "| cohen-covid ", "| nih-chestxray14 "):
        assert subset in printed


def test_demo_compares_all_heads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo.main(["--data.num_images=80", *TINY, "--output", str(tmp_path)])
    printed = capsys.readouterr().out
    for head in DEMO_HEADS:
        assert f"| {head} " in printed
    # One epoch is never enough, and the table says so.
    assert printed.count("| 1* ") == len(DEMO_HEADS)
    assert set(json.loads((tmp_path / "results.json").read_text())) == set(DEMO_HEADS)
    assert {path.name for path in tmp_path.iterdir()} >= {"results.md", "label_auroc.png", "examples.png"}


def test_an_error_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"^error: root must be the folder of the cxr-zones data, got None$"):
        train.main(["--data", "cxr-zones", *TINY, "--output", str(tmp_path)])
