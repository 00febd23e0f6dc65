"""The figures show what they are given."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from spf_data.registry import DataConfig, build_dataset
from spf_net.figures import _LISTED, _mosaic, _verdicts, draw_codes, draw_flattening, draw_predictions


def brightness(path: Path) -> float:
    with Image.open(path) as picture:
        assert min(picture.size) > 300
        return float(np.asarray(picture.convert("L")).std())


def test_the_same_figure_is_the_same_file(tmp_path: Path) -> None:
    draw_flattening(tmp_path / "one.png")
    draw_flattening(tmp_path / "two.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert brightness(tmp_path / "one.png") > 20


def test_maps_and_codes_change_the_picture(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    image, maps = random.random((32, 32), dtype=np.float32), random.random((5, 4, 4), dtype=np.float32)
    for name, codes in (("one", random.random((5, 3), dtype=np.float32)), ("two", np.eye(5, 3, dtype=np.float32))):
        draw_codes(image, maps, codes, tmp_path / f"{name}.png")
    assert (tmp_path / "one.png").read_bytes() != (tmp_path / "two.png").read_bytes()


def test_a_mosaic_keeps_every_map_scaled_to_its_own_largest_value() -> None:
    maps = np.arange(1, 3 * 2 * 2 + 1, dtype=np.float32).reshape(3, 2, 2)
    mosaic = _mosaic(maps)
    assert mosaic.shape == (6, 6)
    assert np.array_equal(mosaic[:2, 3:5], maps[1] / 8)
    assert np.isnan(mosaic[3:5, 3:5]).all()


def test_labels_are_sorted_into_called_missed_and_false(tmp_path: Path) -> None:
    dataset = build_dataset(DataConfig(image_size=64, num_images=4, seed=1))
    truth = dataset.labels.numpy()
    row = int((truth == 1).sum(1).argmax())
    present = np.flatnonzero(truth[row] == 1)
    absent = np.flatnonzero(truth[row] == 0)
    logits = np.full(57, -2.0)
    logits[present[0]], logits[absent[0]], logits[absent[1]] = 3.0, 2.0, 4.0
    thresholds = np.zeros(57)
    thresholds[absent[1]] = np.nan
    texts = [text for text, _ in _verdicts(dataset, row, logits, thresholds)]
    names = dataset.label_set.names
    assert texts[0] == f"✓ {names[present[0]]} 0.95"
    assert f"✗ {names[absent[0]]} 0.88" in texts
    assert not any(names[absent[1]] in text for text in texts)
    assert sum(text.startswith("–") for text in texts) == len(present) - 1
    everything = _verdicts(dataset, row, np.full(57, 1.0), np.zeros(57))
    assert everything[-1][0] == f"and {57 - _LISTED} more"

    draw_predictions(dataset, [row, 0], np.stack([logits, logits]), thresholds, tmp_path / "figure.png")
    assert brightness(tmp_path / "figure.png") > 20
    with pytest.raises(ValueError, match=r"logits must be \(2, 57\) of one row or more, got \(1, 57\)"):
        draw_predictions(dataset, [row, 0], logits[None], thresholds, tmp_path / "figure.png")
