"""Feature maps of a frozen network for every image of a data set, computed once and kept on disk.

A cache is a folder named by a hash of what is in it: the pixels of the images, the network and its weights, the strides
and sizes of the maps. It holds

    settings.json         what the hash is made of, for people
    plain-16.npy          float16 (N, C, H, W), the maps of stride 16; one such file a stride
    mirrored-16.npy       those of the horizontally flipped images

It is written under a temporary name and renamed when it is complete, so an interrupted one is never read: it starts
anew. Maps are float16, and averages over blocks where they are finer than `CacheConfig.largest_map`.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from spf_data.dataset import XrayDataset
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from spf_net.backbones import LITE0, Backbone, build_backbone
from spf_net.checkpoint import sync
from spf_net.lung_frame import resample

Maps = npt.NDArray[np.float16]

_FORMAT = 1
_TEMPORARY = ".writing-"
_BATCH = 16
_RESAMPLING_BATCH = 128


@dataclass(frozen=True)
class CacheConfig:
    """Which maps are kept.

    Attributes:
        backbone: As of `spf_net.backbones.build_backbone`.
        strides: Image pixels per map pixel of each stage that is kept, from fine to coarse.
        largest_map: Maps with more pixels a side are averaged to this many.
        pretrained: Whether the network has its trained weights; otherwise random ones from `seed`.
        seed: Of random weights.

    Raises:
        ValueError: If a size is not positive.
    """

    backbone: str = LITE0
    strides: tuple[int, ...] = (16,)
    largest_map: int = 16
    pretrained: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.strides or min(self.strides) < 1:
            raise ValueError(f"strides must be one or more positive integers, got {self.strides}")
        if self.largest_map < 1 or self.seed < 0:
            raise ValueError(
                f"largest_map must be positive and seed not negative, got {self.largest_map} and {self.seed}"
            )


@dataclass(frozen=True)
class CachedMaps:
    """The maps of a data set, read from the disk where they are used.

    Attributes:
        folder: Where they are.
        plain: By stride, float16 (N, C, H, W), read-only.
        mirrored: By stride, those of the horizontally flipped images.
    """

    folder: Path
    plain: dict[int, Maps]
    mirrored: dict[int, Maps]


def cached_maps(dataset: XrayDataset, config: CacheConfig, root: Path) -> CachedMaps:
    """The maps of all images, from the cache or computed now and kept there.

    Beside the maps of `_BATCH` images and the network nothing is held in memory. Two processes may not compute the same
    cache at a time.

    Args:
        dataset: N images.
        config: Which maps.
        root: Folder of all caches.

    Raises:
        ValueError: If the network is unknown or has no layer of a stride.
        OSError: If its weights can not be had, or the cache can not be written.
        ModuleNotFoundError: If a package is missing that the network needs.
    """
    settings = {"format": _FORMAT, "images": fingerprint(dataset), **asdict(config)}
    document = json.dumps(settings, indent=1, sort_keys=True).encode()
    folder = root / hashlib.sha256(document).hexdigest()[:24]
    if not folder.exists():
        _write(dataset, config, document, folder)
    return CachedMaps(folder, *({stride: _open(folder, kind, stride) for stride in config.strides} for kind in _KINDS))


_KINDS = ("plain", "mirrored")


def fingerprint(dataset: XrayDataset) -> str:
    """A hash of all images in order, so that a changed data set has another cache: 64 hexadecimal digits."""
    digest = hashlib.sha256(f"{len(dataset)} {dataset.channels} {dataset.image_size}".encode())
    for row in range(len(dataset)):
        digest.update(dataset[row]["image"].numpy().tobytes())
    return digest.hexdigest()


def in_lung_frame(maps: Maps, lungs: Tensor, margin: float) -> Tensor:
    """Maps resampled so that the box around both lungs fills them, a part of the images at a time.

    Args:
        maps: float16 (N, C, H, W).
        lungs: float32 (N, 2, 4), as `XrayDataset.lung_boxes`; of mirrored maps the mirrored boxes.
        margin: See `spf_net.lung_frame.resample`.

    Returns:
        float16 (N, C, H, W) in memory.

    Raises:
        ValueError: If there is not one pair of boxes for each image.
    """
    if len(maps) != len(lungs):
        raise ValueError(f"lungs must be ({len(maps)}, 2, 4), got {tuple(lungs.shape)}")
    resampled = torch.empty(maps.shape, dtype=torch.float16)
    for start in range(0, len(maps), _RESAMPLING_BATCH):
        part = slice(start, start + _RESAMPLING_BATCH)
        resampled[part] = resample(as_tensor(maps[part]).float(), lungs[part], margin).half()
    return resampled


def _write(dataset: XrayDataset, config: CacheConfig, document: bytes, folder: Path) -> None:
    temporary = folder.with_name(f"{_TEMPORARY}{folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    files: dict[str, np.memmap[tuple[int, ...], np.dtype[np.float16]]] = {}
    for start, kind, levels in _extract(dataset, config):
        for stride, level in zip(config.strides, levels, strict=True):
            name = _name(kind, stride)
            if name not in files:
                shape = (len(dataset), *level.shape[1:])
                files[name] = np.lib.format.open_memmap(temporary / name, "w+", np.float16, shape)
            files[name][start : start + len(level)] = level.numpy()
    for name, file in files.items():
        file.flush()
        sync(temporary / name)
    (temporary / "settings.json").write_bytes(document)
    sync(temporary / "settings.json")
    sync(temporary)
    temporary.rename(folder)
    sync(folder.parent)


@torch.inference_mode()
def _extract(dataset: XrayDataset, config: CacheConfig) -> Iterator[tuple[int, str, list[Tensor]]]:
    """First row, "plain" or "mirrored", and float16 maps of each stride, a batch at a time."""
    backbone = _backbone(config)
    for start in tqdm(range(0, len(dataset), _BATCH), "maps", unit="batch", leave=False):
        rows = range(start, min(start + _BATCH, len(dataset)))
        images = torch.stack([dataset[row]["image"] for row in rows])
        for kind, seen in zip(_KINDS, (images, images.flip(3)), strict=True):
            yield (
                start,
                kind,
                [
                    _bounded(level, config.largest_map)
                    for level in backbone(seen.contiguous(memory_format=torch.channels_last))
                ],
            )


def _backbone(config: CacheConfig) -> Backbone:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        backbone = build_backbone(config.backbone, config.strides, pretrained=config.pretrained, frozen=True)
    # On a CPU depthwise convolutions take half the time in this layout.
    backbone.to(memory_format=torch.channels_last)
    return backbone


def _bounded(level: Tensor, largest: int) -> Tensor:
    height, width = min(level.shape[2], largest), min(level.shape[3], largest)
    pooled = functional.adaptive_avg_pool2d(level, (height, width)).half()
    if not pooled.isfinite().all():
        raise ValueError(f"maps must lie within the range of float16, got {float(level.abs().max())}")
    return pooled


def _open(folder: Path, kind: str, stride: int) -> Maps:
    maps: Maps = np.load(folder / _name(kind, stride), mmap_mode="r", allow_pickle=False)
    return maps


def _name(kind: str, stride: int) -> str:
    return f"{kind}-{stride}.npy"


def as_tensor(maps: Maps) -> Tensor:
    """A copy in memory."""
    return torch.from_numpy(np.array(maps))
