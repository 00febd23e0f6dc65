"""Data sets by name, made from one plain dataclass so that a command line can set every field."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from spf_data.cxr_zones import CxrZonesDataset, OnError
from spf_data.dataset import XrayDataset
from spf_data.phantom import PhantomConfig, PhantomDataset


@dataclass(frozen=True)
class DataConfig(PhantomConfig):
    """Which data to train on. All settings but those below are the phantom's.

    Raises:
        ValueError: If a value is out of the phantom's range, and it is the phantom that is asked for.

    Attributes:
        name: "phantom" generates radiographs, "cxr-zones" reads real ones from `root`.
        image_size: Height and width of the images in pixels. Of the phantom an even number from 64 to 512.
        root: cxr-zones: folder that holds labels.csv.
        on_error: cxr-zones: "raise" at the first unusable row, or "skip" such rows and report how many.
        require_labels: cxr-zones: leave out images without a single known label, and report how many.
    """

    name: Literal["phantom", "cxr-zones"] = "phantom"
    image_size: int = 128
    root: Path | None = None
    on_error: OnError = "raise"
    require_labels: bool = True

    def __post_init__(self) -> None:
        if self.name == "phantom":
            super().__post_init__()


def build_dataset(config: DataConfig) -> XrayDataset:
    """Make the data set that `config` describes.

    Raises:
        FileNotFoundError: If `root` holds no labels.csv.
        ValueError: If the name is unknown, `root` is missing, or the data set refuses a setting or a row.
    """
    if config.name == "phantom":
        return PhantomDataset(config)
    if config.name == "cxr-zones":
        if config.root is None:
            raise ValueError("root must be the folder of the cxr-zones data, got None")
        return CxrZonesDataset(config.root, config.image_size, config.on_error, require_labels=config.require_labels)
    raise ValueError(f"name must be 'phantom' or 'cxr-zones', got {config.name!r}")
