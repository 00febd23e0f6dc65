"""Data sets by name, made from one plain dataclass so that a command line can set every field."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from spf_data.cxr_zones import CxrZonesDataset, OnError
from spf_data.dataset import XrayDataset
from spf_data.phantom import PhantomConfig, PhantomDataset
from spf_data.phantom.config import Anatomy, Mode


@dataclass(frozen=True)
class DataConfig:
    """Which data to train on.

    Attributes:
        name: "phantom" generates radiographs, "cxr-zones" reads real ones from `root`.
        image_size: Height and width of the images in pixels.
        root: cxr-zones: folder that holds labels.csv.
        on_error: cxr-zones: "raise" at the first unusable row, or "skip" such rows and report how many.
        num_images: phantom: number of images; patients have 1 to 3 each.
        shift: phantom: displacement of the patients, as a share of the width: 0, 0.03 or 0.08.
        anatomy: phantom: "normal", or "translated", in which nothing but position tells the side.
        mode: phantom: "images", or "maps", one noisy map a finding for heads without a network.
        noise: phantom: standard deviation of the pixel noise, as a share of the full scale.
        finding_size: phantom: scales the diameter of the findings.
        contrast: phantom: scales the density of the findings.
        seed: phantom: seed of the generator.
    """

    name: Literal["phantom", "cxr-zones"] = "phantom"
    image_size: int = 128
    root: Path | None = None
    on_error: OnError = "raise"
    num_images: int = 2000
    shift: float = 0.03
    anatomy: Anatomy = "normal"
    mode: Mode = "images"
    noise: float = 0.02
    finding_size: float = 1.0
    contrast: float = 1.0
    seed: int = 0


def build_dataset(config: DataConfig) -> XrayDataset:
    """Make the data set that `config` describes.

    Raises:
        FileNotFoundError: If `root` holds no labels.csv.
        ValueError: If the name is unknown, `root` is missing, or the data set refuses a setting or a row.
    """
    if config.name == "phantom":
        return PhantomDataset(
            PhantomConfig(
                num_images=config.num_images,
                image_size=config.image_size,
                shift=config.shift,
                anatomy=config.anatomy,
                mode=config.mode,
                noise=config.noise,
                finding_size=config.finding_size,
                contrast=config.contrast,
                seed=config.seed,
            )
        )
    if config.name == "cxr-zones":
        if config.root is None:
            raise ValueError("root must be the folder of the cxr-zones data, got None")
        return CxrZonesDataset(config.root, config.image_size, config.on_error)
    raise ValueError(f"name must be 'phantom' or 'cxr-zones', got {config.name!r}")
