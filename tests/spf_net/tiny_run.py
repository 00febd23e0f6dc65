"""A run that takes seconds, and radiographs to try it on."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import train
from PIL import Image
from spf_data.registry import DataConfig, build_dataset

ARGUMENTS = [
    "--extractor.widths=[4]",
    "--extractor.num_maps=3",
    "--extractor.downsample=8",
    "--extractor.norm_groups=1",
    "--head.code_size=2",
    "--data.image_size=64",
    "--data.num_images=40",
    "--training.epochs=1",
    "--training.accelerator=cpu",
    "--training.resamples=10",
]


def train_tiny(folder: Path, *arguments: str) -> Path:
    train.main([*ARGUMENTS, *arguments, "--output", str(folder)])
    return folder


def phantom_images(count: int = 3) -> list[npt.NDArray[np.uint8]]:
    dataset = build_dataset(DataConfig(image_size=64, num_images=count, seed=7))
    return [(dataset[row]["image"][0].numpy() * 255).round().astype(np.uint8) for row in range(count)]


def save_images(folder: Path, count: int = 3) -> list[Path]:
    """Phantom images as PNG files, the first ones within a folder of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "a").mkdir()
    paths = [folder / "a" / "1.png", *(folder / f"b{number}.png" for number in range(1, count))]
    for path, image in zip(paths, phantom_images(count), strict=True):
        Image.fromarray(image).save(path)
    return paths
