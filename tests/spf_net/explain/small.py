"""A small network and its inputs, in float64."""

from typing import Any

import torch
from spf_net.extractor import ExtractorConfig
from spf_net.heads import HeadConfig, HeadName
from spf_net.lung_frame import FrameConfig
from spf_net.network import SPFNetwork, build_network
from torch import Tensor

LABELS = 7


def network(name: HeadName = "spf", frame: FrameConfig | None = None, seed: int = 3, **settings: Any) -> SPFNetwork:
    extractor = ExtractorConfig(widths=(4, 8), num_maps=6, downsample=4)
    head = HeadConfig(**({"name": name, "code_size": 4, "projections": 9} | settings))
    return build_network(extractor, head, 1, 32, LABELS, seed, frame=frame).double().eval()


def images(seed: int = 1, batch: int = 2) -> Tensor:
    return torch.rand(batch, 1, 32, 32, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_maps(seed: int = 2, batch: int = 2) -> Tensor:
    return torch.randn(batch, 6, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
