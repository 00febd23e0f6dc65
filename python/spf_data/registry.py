"""Data sets by name, made from one plain dataclass so that a command line can set every field."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from spf_data.cxr_zones import CxrZonesDataset, OnError
from spf_data.dataset import XrayDataset
from spf_data.image_cache import available_cpus, cache_images
from spf_data.manifest import read_manifest
from spf_data.manifest_dataset import Selection, SplitFrom, open_manifest_dataset
from spf_data.phantom import PhantomConfig, PhantomDataset


@dataclass(frozen=True)
class DataConfig(PhantomConfig):
    """Which data to train on. All settings but those below are the phantom's.

    Raises:
        ValueError: If a value is out of the phantom's range, and it is the phantom that is asked for.

    Attributes:
        name: "phantom" generates radiographs, "cxr-zones" reads real ones from `root`, "manifest" any collection that
            python/prepare_data.py has made a manifest of.
        image_size: Height and width of the images in pixels. Of the phantom an even number from 64 to 512.
        root: cxr-zones: folder that holds labels.csv. manifest: folder that its paths are relative to; not needed once
            every image is cached.
        on_error: cxr-zones: "raise" at the first unusable row, or "skip" such rows and report how many.
        require_labels: Not of the phantom: leave out images without a single known label, and report how many.
        manifest: manifest: the Parquet file.
        cache: manifest: folder for the images, decoded and resized once; new, or as an earlier run left it.
        labels: manifest: names of the labels to train on, in this order; null for all.
        split_from: manifest: "manifest" takes its split, "settings" splits as the settings of the training say.
    """

    name: Literal["phantom", "cxr-zones", "manifest"] = "phantom"
    image_size: int = 128
    root: Path | None = None
    on_error: OnError = "raise"
    require_labels: bool = True
    manifest: Path | None = None
    cache: Path | None = None
    labels: tuple[str, ...] | None = None
    split_from: SplitFrom = "manifest"

    def __post_init__(self) -> None:
        if self.name == "phantom":
            super().__post_init__()


def build_dataset(config: DataConfig) -> XrayDataset:
    """Make the data set that `config` describes; of a manifest, cache the images that are not cached yet.

    Raises:
        FileNotFoundError: If `root` holds no labels.csv, or there is no manifest, or no image of it.
        OSError: If the disk is too small for the cache.
        ValueError: If the name is unknown, `root`, `manifest` or `cache` is missing, or the data set refuses a setting
            or a row.
    """
    if config.name == "phantom":
        return PhantomDataset(config)
    if config.name == "cxr-zones":
        if config.root is None:
            raise ValueError("root must be the folder of the cxr-zones data, got None")
        return CxrZonesDataset(config.root, config.image_size, config.on_error, require_labels=config.require_labels)
    if config.name == "manifest":
        return _build_manifest_dataset(config)
    raise ValueError(f"name must be 'phantom', 'cxr-zones' or 'manifest', got {config.name!r}")


def _build_manifest_dataset(config: DataConfig) -> XrayDataset:
    if config.manifest is None or config.cache is None:
        raise ValueError(f"manifest and cache must be paths, got {config.manifest} and {config.cache}")
    if config.root is not None:
        manifest = read_manifest(config.manifest)
        # The processes of one run come here together: one caches, the others wait.
        cache_images(config.cache, manifest, config.root, config.image_size, workers=available_cpus(), wait=True)
    selection = Selection(config.labels, config.require_labels, config.split_from)
    return open_manifest_dataset(config.manifest, config.cache, config.image_size, selection)
