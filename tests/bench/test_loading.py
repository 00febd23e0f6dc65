import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from spf_data.images import read_image, square

from bench import loading
from bench.loading import CACHING, OURS, Case, Measured, measure, page, rivals, synthetic


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_all_ways_load_the_same_pictures(tmp_path, kind):
    root = synthetic(tmp_path / "root", kind, 64, 2)
    path = root / "images" / f"0.{kind}"
    loaded = []
    for load, transform in rivals(32).values():
        image = load(str(path))
        image = image if transform is None else transform(image)
        assert image.shape == (1, 32, 32)
        assert image.dtype == torch.float32
        loaded.append(image)
    # Which range a 16-bit PNG uses is the reader's to find out.
    scale = 65535 / 4095 if kind == "png" else 1
    ours = torch.from_numpy(square(read_image(path), 32)) / 255
    for image in loaded:
        assert torch.corrcoef(torch.stack([image.flatten(), ours.flatten()]))[0, 1] > 0.99
        assert abs((image * scale).mean() - ours.mean()) < 0.01


def test_every_way_is_measured_with_every_number_of_workers(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "_LEAST_IMAGES", 10)
    root = synthetic(tmp_path / "root", "jpg", 32, 3)
    (tmp_path / "work").mkdir()
    measured = measure(Case("small", root, 16), tmp_path / "work", (0, 1), 2)
    assert list(measured) == [*rivals(16), OURS, CACHING]
    for name, found in measured.items():
        assert all(len(rates) == 2 and min(rates) > 0 for rates in found.rates.values())
        assert list(found.rates) == [0, 1]
        assert (found.worker_mb is None) == (name == CACHING)
    text = page({"small": measured}, 2)
    assert text.startswith("# Loading\n")
    assert all(f"| {name} |" in text.replace("**", "") for name in measured)
    assert "613\nGFLOP of training for an image of 512x512" in text


def test_ratios_are_those_of_the_best_forms():
    measured = {
        "a": Measured({0: [10.0, 30.0, 20.0], 2: [5.0] * 3}, 1.0),
        "b": Measured({0: [1.0] * 3, 2: [40.0] * 3}, 1.0),
        OURS: Measured({0: [100.0] * 3, 2: [80.0] * 3}, 1.0),
        CACHING: Measured({0: [4.0] * 3, 2: [8.0] * 3}, None),
    }
    ratios = [line.split(" | ")[3] for line in loading.table(measured).splitlines()[2:]]
    assert ratios == ["0.50x", "1.00x", "2.50x", "0.20x"]


def test_synthetic_images_are_of_their_depth(tmp_path):
    image = read_image(synthetic(tmp_path, "png", 32, 1) / "images" / "0.png")
    assert len(np.unique(image)) > 256


def test_the_command_needs_no_search_path():
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "bench.loading", "--help"]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "--zones" in result.stdout
