"""Fits a head on maps of a frozen network that are held in memory: no extractor runs, and no loader."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from spf_kernels.optim import NAdam
from spf_net.blocks import to_maps
from spf_net.heads import HeadConfig, build_head
from spf_net.losses import masked_bce
from spf_net.network import NetworkOutput, count_parameters

Rows = npt.NDArray[np.int64]

# Keras' epsilon, as in `spf_net.config.OptimizerConfig`.
_EPS = 1e-7
_SCORING_BATCH = 256


@dataclass(frozen=True)
class LabelledMaps:
    """Maps of every image of a data set.

    Attributes:
        plain: float16 or float32 (N, C, H, W).
        mirrored: Of the horizontally flipped images, of the same dtype and shape; none where nothing is flipped.
        labels: float32 (N, L): 1 present, 0 absent, NaN not known.
        mirror: `LabelSet.mirror`: for each of the L labels the index of its label on the other side.

    Raises:
        ValueError: If the shapes do not fit together.
        TypeError: If the maps are not floating point.
    """

    plain: Tensor
    mirrored: Tensor | None
    labels: Tensor
    mirror: Sequence[int]

    def __post_init__(self) -> None:
        if not self.plain.is_floating_point():
            raise TypeError(f"plain must be floating point, got {self.plain.dtype}")
        if self.plain.dim() != 4 or len(self.plain) != len(self.labels):
            raise ValueError(f"plain must be ({len(self.labels)}, C, H, W), got {tuple(self.plain.shape)}")
        if self.mirrored is not None and self.mirrored.shape != self.plain.shape:
            raise ValueError(f"mirrored must be {tuple(self.plain.shape)}, got {tuple(self.mirrored.shape)}")
        if self.labels.dim() != 2 or self.labels.shape[1] != len(self.mirror):
            raise ValueError(f"labels must be (N, {len(self.mirror)}), got {tuple(self.labels.shape)}")

    def batch(self, rows: Tensor, flipped: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Maps and labels of some images, mirrored where asked for.

        Args:
            rows: int64 (B,).
            flipped: bool (B,), which of them are mirrored; none of them if None.

        Returns:
            float32 (B, C, H, W) and (B, L).
        """
        maps, labels = self.plain[rows], self.labels[rows]
        if flipped is not None and self.mirrored is not None:
            maps[flipped] = self.mirrored[rows[flipped]]
            labels[flipped] = labels[flipped][:, list(self.mirror)]
        return maps.float(), labels


@dataclass(frozen=True)
class FitConfig:
    """How a head is fitted.

    Attributes:
        projection: Maps that a learned 1x1 convolution makes of the frozen ones, the same for every head; none hands
            the frozen ones on.
        lr: Learning rate of NAdam.
        epochs: At most this many.
        patience: Stop when the classification loss on the validation part has not fallen for this many epochs.
        batch_size: Images a step.
        flip: Probability that an image of an epoch is the mirrored one, with its labels.
        seed: Weights, order and flips follow from it.

    Raises:
        ValueError: If a value is out of its range.
    """

    projection: int | None = 64
    lr: float = 1e-3
    epochs: int = 60
    patience: int = 6
    batch_size: int = 32
    flip: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("projection", "epochs", "patience", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not 0 <= self.flip <= 1:
            raise ValueError(f"flip must be in [0, 1], got {self.flip}")
        if not self.lr > 0 or self.seed < 0:
            raise ValueError(f"lr must be positive and seed not negative, got {self.lr} and {self.seed}")


class FrozenMapsNetwork(nn.Module):
    """Standardised maps, a 1x1 convolution, a head, one dense layer.

    Attributes:
        projection: 1x1 convolution and ReLU; nothing where the frozen maps are handed on.
        head: From maps to features.
        classifier: From features to logits.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        head: HeadConfig,
        projection: int | None,
        mean: Tensor,
        std: Tensor,
        map_size: tuple[int, int],
        labels: int,
    ) -> None:
        """Build the layers, the projection first: with one seed it starts alike whatever the head.

        Args:
            head: What flattens the maps.
            projection: See `FitConfig`.
            mean: (C,) of the frozen maps.
            std: (C,) of the frozen maps.
            map_size: (H, W) of the maps.
            labels: L.
        """
        super().__init__()
        self.register_buffer("mean", mean.view(-1, 1, 1))
        self.register_buffer("std", std.view(-1, 1, 1))
        self.projection = nn.Sequential(*(to_maps(len(mean), projection) if projection else []))
        self.head = build_head(head, projection or len(mean), map_size, "factored")
        self.classifier = nn.Linear(self.head.features, labels)

    def maps(self, frozen: Tensor) -> Tensor:
        """What the head sees: (B, C, H, W) -> (B, projection, H, W)."""
        maps: Tensor = self.projection((frozen - self.mean) / self.std)
        return maps

    def forward(self, frozen: Tensor) -> NetworkOutput:
        """Classify the maps (B, C, H, W) of images."""
        features, loss = self.head(self.maps(frozen))
        return NetworkOutput(self.classifier(features), loss)


@dataclass(frozen=True)
class Fit:
    """A fitted head.

    Attributes:
        network: With the weights of the best epoch, in evaluation mode.
        validation_loss: Of the best epoch.
        best_epoch: Counts from 1.
        epochs: How many there were.
        seconds: All epochs and their validation.
        parameters: Trainable ones, the projection's and the dense layer's among them.
        head_share: Share of the time of a training step that the head takes, forward and backward; measured on one
            batch after the fit, without the optimizer.
    """

    network: FrozenMapsNetwork
    validation_loss: float
    best_epoch: int
    epochs: int
    seconds: float
    parameters: int
    head_share: float


def fit(data: LabelledMaps, train: Rows, validation: Rows, head: HeadConfig, config: FitConfig) -> Fit:
    """Fit a head and its dense layer, stopping early.

    Everything follows from `config.seed` and the data; the global random state stays as it was.

    Args:
        data: Maps and labels.
        train: Rows to fit on.
        validation: Rows that say when to stop and which epoch is the best.
        head: What is fitted.
        config: How.

    Raises:
        ValueError: If a part is empty, flips are asked for without mirrored maps, or the head does not fit the maps.
        FloatingPointError: If the validation loss is not finite.
    """
    for name, rows in (("train", train), ("validation", validation)):
        if len(rows) == 0:
            raise ValueError(f"{name} must hold at least one row, got none")
    if config.flip > 0 and data.mirrored is None:
        raise ValueError(f"flip must be 0 without mirrored maps, got {config.flip}")
    network = _build(data, train, head, config)
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = NAdam(trainable, config.lr, eps=_EPS, seed=config.seed % 2**32)
    truth = data.labels[validation]
    best: dict[str, Tensor] = {}
    best_loss, best_epoch, epoch = float("inf"), 0, 0
    started = time.perf_counter()
    while epoch < config.epochs and epoch - best_epoch < config.patience:
        epoch += 1
        _epoch(network, optimizer, data, train, epoch, head.reconstruction_weight, config)
        loss = float(masked_bce(torch.from_numpy(scores(network, data, validation)), truth))
        if not np.isfinite(loss):
            raise FloatingPointError(f"the validation loss is {loss} in epoch {epoch}; lower lr ({config.lr})")
        if loss < best_loss:
            best_loss, best_epoch = loss, epoch
            best = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    seconds = time.perf_counter() - started
    network.load_state_dict(best)
    share = head_share(network, data, train[: config.batch_size])
    return Fit(network.eval(), best_loss, best_epoch, epoch, seconds, count_parameters(network), share)


def fit_best_rate(
    data: LabelledMaps, train: Rows, validation: Rows, head: HeadConfig, config: FitConfig, rates: Sequence[float]
) -> tuple[float, Fit]:
    """Fit with each learning rate, and keep the fit with the lowest loss on the validation part.

    Returns:
        The rate and its fit.

    Raises:
        ValueError: If there are no rates.
    """
    if not rates:
        raise ValueError("rates must not be empty, got ()")
    fits = [(rate, fit(data, train, validation, head, replace(config, lr=rate))) for rate in rates]
    return min(fits, key=lambda pair: pair[1].validation_loss)


@torch.no_grad()
def scores(network: FrozenMapsNetwork, data: LabelledMaps, rows: Rows) -> npt.NDArray[np.float32]:
    """Logits of some images, none of them mirrored: float32 (N, L)."""
    network.eval()
    logits = []
    for part in torch.from_numpy(rows).split(_SCORING_BATCH):
        features = network.head.flatten_maps(network.maps(data.batch(part)[0]))
        logits.append(network.classifier(features))
    found: npt.NDArray[np.float32] = torch.cat(logits).numpy()
    return found


def head_share(network: FrozenMapsNetwork, data: LabelledMaps, rows: Rows, repeats: int = 3) -> float:
    """Share of forward and backward that is the head's, from the fastest of some repeats on the maps of `rows`."""
    network.train()
    maps, labels = data.batch(torch.from_numpy(rows))
    whole, head = [], []
    for _ in range(repeats):
        started = time.perf_counter()
        logits, loss = network(maps)
        (masked_bce(logits, labels) + loss).backward()
        whole.append(time.perf_counter() - started)
        seen = network.maps(maps).detach().requires_grad_()
        started = time.perf_counter()
        features, loss = network.head(seen)
        (features.sum() + loss).backward()
        head.append(time.perf_counter() - started)
        network.zero_grad()
    return min(1.0, min(head) / min(whole))


def _build(data: LabelledMaps, train: Rows, head: HeadConfig, config: FitConfig) -> FrozenMapsNetwork:
    mean, std = _statistics(data.plain, torch.from_numpy(train))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        map_size = (data.plain.shape[2], data.plain.shape[3])
        return FrozenMapsNetwork(head, config.projection, mean, std, map_size, data.labels.shape[1])


def _statistics(maps: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (C,) of each map over the training images."""
    # In parts: all rows at once in float32 would be twice the size of the maps.
    total = torch.zeros(2, maps.shape[1], dtype=torch.float64)
    for part in rows.split(_SCORING_BATCH):
        values = maps[part].float().transpose(0, 1).flatten(1)
        total += torch.stack([values.mean(1), values.square().mean(1)]).double() * len(part)
    mean, square = total / len(rows)
    return mean.float(), (square - mean.square()).clamp(min=1e-12).sqrt().float()


def _epoch(
    network: FrozenMapsNetwork,
    optimizer: NAdam,
    data: LabelledMaps,
    train: Rows,
    epoch: int,
    reconstruction_weight: float,
    config: FitConfig,
) -> None:
    """Every training image once, plain or mirrored."""
    network.train()
    random = np.random.default_rng([config.seed, epoch])
    order = torch.from_numpy(random.permutation(train))
    flips = torch.from_numpy(random.random(len(train)) < config.flip)
    for rows, flipped in zip(order.split(config.batch_size), flips.split(config.batch_size), strict=True):
        maps, labels = data.batch(rows, flipped if config.flip > 0 else None)
        logits, reconstruction = network(maps)
        optimizer.zero_grad()
        (masked_bce(logits, labels) + reconstruction_weight * reconstruction).backward()
        optimizer.step()
