"""Encoders that are pre-trained as auto-encoders on every image's maps, labels or none, and then stay as they are."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from spf_kernels import SPFAutoencoder, SPFFlatten
from spf_kernels.optim import NAdam
from spf_net.fitting import Rows
from spf_net.study.zone_maps import BothMaps

Start = Literal["random", "dct", "pre-trained"]
STARTS: tuple[Start, ...] = ("random", "dct", "pre-trained")
_SCORING_BATCH = 256


@dataclass(frozen=True)
class PretrainingConfig:
    """How auto-encoders are pre-trained.

    Attributes:
        code_size: D.
        epochs: Passes over the images, each of them once plain or mirrored.
        lr: Learning rate of NAdam.
        batch_size: Images a step.
        seed: Weights, order and flips follow from it.
    """

    code_size: int = 16
    epochs: int = 20
    lr: float = 1e-3
    batch_size: int = 32
    seed: int = 0


def codes(both: BothMaps, rows: Rows, start: Start, config: PretrainingConfig) -> BothMaps:
    """Linear codes of all maps, each map's as a map of one row: float16 (N, C, 1, D).

    Args:
        both: Maps of N images.
        rows: Images that the maps' mean and deviation are of, and that "pre-trained" encoders learn from.
        start: "random" and "dct" encoders are not trained at all.
        config: How.
    """
    encoder = _encoder(both, rows, start, config)
    mean, std = _statistics(both.plain, rows)
    return BothMaps(*(_encode(encoder, maps, mean, std) for maps in both))


def _encoder(both: BothMaps, rows: Rows, start: Start, config: PretrainingConfig) -> SPFFlatten:
    maps = both.plain.shape[1]
    size = (both.plain.shape[2], both.plain.shape[3])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if start == "pre-trained":
            return _pretrained(both, rows, config)
        return SPFFlatten(maps, size, config.code_size, init="dct" if start == "dct" else "linear")


def _pretrained(both: BothMaps, rows: Rows, config: PretrainingConfig) -> SPFFlatten:
    size = (both.plain.shape[2], both.plain.shape[3])
    autoencoder = SPFAutoencoder(both.plain.shape[1], size, config.code_size, None, grad_mode="factored")
    optimizer = NAdam(list(autoencoder.parameters()), config.lr, eps=1e-7, seed=config.seed)
    mean, std = _statistics(both.plain, rows)
    for epoch in range(config.epochs):
        random = np.random.default_rng([config.seed, epoch])
        order = torch.from_numpy(random.permutation(rows))
        for batch in order.split(config.batch_size):
            flipped = torch.from_numpy(random.random(len(batch)) < 0.5)[:, None, None, None]
            maps = torch.where(flipped, both.mirrored[batch], both.plain[batch])
            optimizer.zero_grad()
            autoencoder((maps.float() - mean) / std).loss.backward()
            optimizer.step()
    return autoencoder.encoder


def _statistics(maps: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
    chosen = maps[torch.from_numpy(rows)].float()
    mean, std = chosen.mean((0, 2, 3)), chosen.std((0, 2, 3)).clamp(min=1e-6)
    return mean[:, None, None], std[:, None, None]


@torch.no_grad()
def _encode(encoder: SPFFlatten, maps: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    parts = [encoder((part.float() - mean) / std) for part in maps.split(_SCORING_BATCH)]
    return torch.cat(parts).view(len(maps), maps.shape[1], 1, -1).half()
