"""Training of the lung regressor, on any data set that knows some lung boxes."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from spf_data.dataset import Sample, XrayDataset
from spf_data.registry import DataConfig
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from spf_net.augment import random_mirror, rotate_and_shift
from spf_net.lung_frame import is_known
from spf_net.lung_regressor import LungRegressor, box_iou


@dataclass(frozen=True)
class LungConfig:
    """How a lung regressor is trained.

    Attributes:
        data: What to train on; images without both boxes are left out, and counted.
        epochs: Number of epochs; the learning rate falls to 0 along a cosine.
        batch_size: Images a step.
        lr: Learning rate of Adam at the start.
        seed: Split, initial weights, order and augmentation follow from it.
        split: Shares of the patients to train on, and two parts that are held out together. With the split and the seed
            of the network that will use the regressor, it never sees a patient of that network's validation and test.
        rotation: Augmentation: largest angle in degrees, either way.
        shift: Augmentation: largest shift along each axis as a share of the image's size, either way.
        flip: Augmentation: probability of a horizontal flip, which swaps the lungs.
        output: Folder for the regressor.
        overwrite: Replace the regressor that `output` holds.
    """

    data: DataConfig = field(default_factory=DataConfig)
    epochs: int = 60
    batch_size: int = 32
    lr: float = 2e-3
    seed: int = 0
    split: tuple[float, float, float] = (0.7, 0.1, 0.2)
    rotation: float = 5.0
    shift: float = 0.1
    flip: float = 0.5
    output: Path = Path("runs/lungs")
    overwrite: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("rotation", "shift", "seed"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if not self.lr > 0:
            raise ValueError(f"lr must be positive, got {self.lr}")
        if not 0 <= self.flip <= 1:
            raise ValueError(f"flip must be in [0, 1], got {self.flip}")


class LungResult(NamedTuple):
    """A trained regressor and how well it does on patients it has not seen.

    Attributes:
        regressor: In evaluation mode, on the CPU.
        rows: int64 (N,), the rows of the data set that were held out.
        iou: float32 (N, 2), of right and left lung with the boxes of the data set.
        trained_on: Number of images it was trained on.
        without_boxes: Number of images that were left out because a box is not known.
        seconds: Of training.
    """

    regressor: LungRegressor
    rows: npt.NDArray[np.int64]
    iou: npt.NDArray[np.float32]
    trained_on: int
    without_boxes: int
    seconds: float


def train_lungs(config: LungConfig, dataset: XrayDataset) -> LungResult:
    """Train a regressor by the smooth L1 loss of its boxes, on the CPU.

    Args:
        config: All settings; `config.data` has been built into `dataset`.
        dataset: What to train on.

    Raises:
        ValueError: If no image has both boxes, or the split leaves a part empty.
    """
    started = time.perf_counter()
    known = is_known(dataset.lung_boxes).numpy()
    if not known.any():
        raise ValueError(f"data must know some lung boxes, got {len(dataset)} images without any")
    parts = dataset.parts(config.split, config.seed)
    train, *held_out = (rows[known[rows]] for rows in parts.values())
    rows = np.sort(np.concatenate(held_out))
    if len(train) == 0 or len(rows) == 0:
        raise ValueError(f"split must leave images to train on and to hold out, got {len(train)} and {len(rows)}")
    seed = int(np.random.SeedSequence(config.seed).generate_state(1)[0])
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        regressor = LungRegressor(dataset.channels)
        _fit(regressor, Subset(dataset, train.tolist()), config, torch.Generator().manual_seed(seed))
        # Loading draws from the global random state.
        iou = _score(regressor, Subset(dataset, rows.tolist()), config.batch_size)
    seconds = time.perf_counter() - started
    return LungResult(regressor, rows, iou.numpy(), len(train), int((~known).sum()), seconds)


def _fit(regressor: LungRegressor, subset: Subset[Sample], config: LungConfig, generator: torch.Generator) -> None:
    loader = DataLoader(subset, config.batch_size, shuffle=True, generator=generator)
    optimizer = torch.optim.Adam(regressor.parameters(), config.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.epochs * len(loader))
    regressor.train()
    for _ in tqdm(range(config.epochs), "epochs", leave=False):
        for batch in loader:
            images, lungs = _augment(batch["image"], batch["lungs"], config, generator)
            optimizer.zero_grad()
            # The quadratic part ends at 2 % of the image's side: boxes that are far off do not rule the sum.
            functional.smooth_l1_loss(regressor(images), lungs, beta=0.02).backward()
            optimizer.step()
            schedule.step()
    regressor.eval()


def _augment(images: Tensor, lungs: Tensor, config: LungConfig, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    no_labels = images.new_zeros(len(images), 0)
    images, _, lungs = random_mirror(images, no_labels, lungs, (), config.flip, generator)
    return rotate_and_shift(images, lungs, config.rotation, config.shift, generator)


@torch.no_grad()
def _score(regressor: LungRegressor, subset: Subset[Sample], batch_size: int) -> Tensor:
    loader = DataLoader(subset, batch_size)
    return torch.cat([box_iou(regressor(batch["image"]), batch["lungs"]) for batch in loader])
