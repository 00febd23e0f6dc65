"""The pictures show what they should."""

from pathlib import Path

import numpy as np
from PIL import Image
from spf_data import DataConfig, build_dataset
from spf_net.plots import plot_examples, plot_label_auroc


def grey(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("L"))


def test_examples_show_every_image(tmp_path: Path) -> None:
    dataset = build_dataset(DataConfig(num_images=5, image_size=64))
    plot_examples(dataset, range(5), tmp_path / "examples.png")
    height, width = grey(tmp_path / "examples.png").shape
    for row, column in [(0, 0), (0, 3), (1, 0)]:
        cell = grey(tmp_path / "examples.png")[
            row * height // 2 : (row + 1) * height // 2, column * width // 4 : (column + 1) * width // 4
        ]
        assert (cell < 250).mean() > 0.3
    assert (grey(tmp_path / "examples.png")[height // 2 :, width // 2 :] == 255).all()


def test_a_label_that_is_undefined_for_a_head_has_no_dot(tmp_path: Path) -> None:
    labels = build_dataset(DataConfig(num_images=5, image_size=64)).label_set
    values = np.linspace(0.4, 1, len(labels))
    plot_label_auroc({"spf": values, "other": values - 0.1}, labels, tmp_path / "all.png")
    values[3:] = np.nan
    plot_label_auroc({"spf": values, "other": values - 0.1}, labels, tmp_path / "few.png")
    assert (grey(tmp_path / "few.png") < 200).sum() < (grey(tmp_path / "all.png") < 200).sum()


def test_more_heads_than_colours_are_all_drawn(tmp_path: Path) -> None:
    labels = build_dataset(DataConfig(num_images=5, image_size=64)).label_set
    values = np.linspace(0.4, 0.9, len(labels))
    heads = {f"head {number}": values + number / 100 for number in range(9)}
    plot_label_auroc(dict(list(heads.items())[:6]), labels, tmp_path / "six.png")
    plot_label_auroc(heads, labels, tmp_path / "nine.png")
    assert grey(tmp_path / "nine.png")[150:].mean() < grey(tmp_path / "six.png")[150:].mean() - 1
