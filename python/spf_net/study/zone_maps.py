"""The maps of cxr-zones: in the image's frame or the lungs', of one stride or of two together."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from spf_data.boxes import mirrored_lungs
from spf_data.dataset import XrayDataset
from torch import Tensor

from spf_net.cached_maps import CachedMaps, Maps, as_tensor, in_lung_frame
from spf_net.fitting import LabelledMaps, Rows
from spf_net.study.lines import Frame

MARGIN = 0.05


class BothMaps(NamedTuple):
    """Maps float16 (N, C, H, W) and those of the flipped images."""

    plain: Tensor
    mirrored: Tensor


def maps_of(cached: CachedMaps, dataset: XrayDataset, rows: Rows, frame: Frame, levels: Sequence[int]) -> BothMaps:
    """Maps of some images; coarser levels are repeated to the size of the first, and joined to it.

    Args:
        cached: Maps of all images.
        dataset: The images, for their lung boxes; images without boxes keep the whole image as their frame.
        rows: Which images.
        frame: What fills the maps.
        levels: Strides, from fine to coarse.
    """
    boxes = dataset.lung_boxes[rows]
    both = []
    for maps, lungs in ((cached.plain, boxes), (cached.mirrored, mirrored_lungs(boxes))):
        each = [_framed(maps[stride][rows], lungs, frame) for stride in levels]
        both.append(torch.cat([_repeated(level, each[0].shape[2]) for level in each], dim=1))
    return BothMaps(*both)


def labelled(both: BothMaps, dataset: XrayDataset, rows: Rows) -> LabelledMaps:
    """The maps of `rows` with their labels."""
    return LabelledMaps(both.plain, both.mirrored, dataset.labels[rows], dataset.label_set.mirror)


def labelled_rows(dataset: XrayDataset) -> Rows:
    """Rows with at least one known label."""
    return np.flatnonzero(~np.isnan(dataset.labels.numpy()).all(axis=1))


def _framed(maps: Maps, lungs: Tensor, frame: Frame) -> Tensor:
    return in_lung_frame(maps, lungs, MARGIN) if frame == "lungs" else as_tensor(maps)


def _repeated(maps: Tensor, size: int) -> Tensor:
    times = size // maps.shape[2]
    return maps.repeat_interleave(times, dim=2).repeat_interleave(times, dim=3)
