"""What ranks and the test that compares them share: a network, its data, its training; and how ranks are started."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from spf_kernels import FactoredGrad, SPFAutoencoder
from spf_kernels.distributed import clip_grad_norm_
from spf_kernels.optim import NAdam

# 5 maps make unequal shares
C, D, SIDE, LABELS = 5, 16, 8, 3
S = SIDE * SIDE
# of all ranks together
BATCH, STEPS = 12, 4
MAX_NORM = 0.1
_ROOT = Path(__file__).resolve().parents[2]


class Place(NamedTuple):
    """Where a scenario runs; the folder is common to all ranks."""

    rank: int
    world: int
    folder: Path


class Network(nn.Module):
    """An extractor, the auto-encoder, a head."""

    def __init__(self, grad_mode="dense", seed=0, **options):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.extractor = nn.Conv2d(1, C, 3, padding=1)
            self.autoencoder = SPFAutoencoder(C, SIDE, D, "tanh", "sigmoid", grad_mode=grad_mode, **options)
            self.head = nn.Linear(C * D, LABELS)

    def forward(self, images):
        codes, loss = self.autoencoder(self.extractor(images))
        return self.head(codes), loss


def images_of(step, rank=0, world=1, batch=BATCH):
    """A rank's share of a step's images."""
    images = torch.randn(batch, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(step))
    return images.tensor_split(world)[rank]


def make_optimizer(model):
    return NAdam(model.parameters(), lr=1e-2)


def mean_loss(model, images):
    logits, loss = model(images)
    return logits.float().square().mean() + loss.mean()


def train(model, network, optimizer, rank=0, world=1, steps=range(STEPS)):
    """Trains a network by way of a model that wraps it; returns the norms before clipping."""
    norms = []
    for step in steps:
        optimizer.zero_grad()
        mean_loss(model, images_of(step, rank, world)).backward()
        norms.append(clip_grad_norm_(network, MAX_NORM).item())
        optimizer.step()
    return norms


def gradients_of(network):
    """By name, dense."""
    return {
        name: (each.grad.dense() if isinstance(each.grad, FactoredGrad) else each.grad.clone())
        for name, each in network.named_parameters()
    }


class Results:
    """What the ranks of all scenarios return, in the order of ranks."""

    def __init__(self, folder):
        self.folder = folder
        not_ours = ("SPF_", "TRITON_", "MASTER_", "RANK", "LOCAL_RANK", "WORLD_SIZE")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(not_ours)}
        self.run = subprocess.run(
            [sys.executable, "-m", "tests.spf_kernels.distributed_ranks", str(folder)],
            cwd=_ROOT,
            env={**environment, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def of(self, scenario, world, ranks=None):
        """Of the given number of ranks, by default all."""
        paths = [self.folder / f"{scenario}-{world}-{rank}.pt" for rank in range(world if ranks is None else ranks)]
        assert all(path.exists() for path in paths), f"{scenario} on {world} ranks: {self.run.stderr[-6000:]}"
        return [torch.load(path, weights_only=True) for path in paths]
