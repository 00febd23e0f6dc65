"""Small heads of every kind, in front of a classifier."""

from typing import Any

import torch
from spf_net.heads import Head, HeadConfig, HeadName, build_head
from torch import Tensor, nn

C, H, W, LABELS = 5, 6, 4, 7
BLIND: tuple[HeadName, ...] = ("average_pooling", "square_pooling", "square_pooling_projected")
SMALL: dict[str, Any] = {"code_size": 4, "grid": 2, "projections": 9}


def build(name: HeadName, seed: int = 0, dtype: torch.dtype = torch.float64, **settings: Any) -> tuple[Head, nn.Linear]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        head = build_head(HeadConfig(name=name, **(SMALL | settings)), C, (H, W))
        classifier = nn.Linear(head.features, LABELS)
    return head.to(dtype), classifier.to(dtype)


def random_maps(seed: int = 1, batch: int = 3, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, C, H, W, generator=generator, dtype=torch.float64).to(dtype)
