"""Training with early stopping, resumable after any epoch, bit by bit."""

import math
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from spf_data.dataset import Sample, XrayDataset
from spf_data.splits import part_of_rows, split_hash
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler, Subset
from tqdm import tqdm

from spf_kernels.distributed import gather_optimizer_state_dict, gather_state_dict, load_optimizer_state_dict
from spf_kernels.optim import NAdam
from spf_net.augment import random_mirror, rotate_and_shift
from spf_net.checkpoint import Checkpoint, has_checkpoint, load_checkpoint, save_checkpoint, tidy
from spf_net.config import OptimizerConfig, RunConfig, config_to_dict
from spf_net.history import EpochRow, StopReason, best_epoch, describe, seconds_a_step, stop_reason
from spf_net.launch import share_network
from spf_net.losses import masked_bce, positive_weights
from spf_net.lung_frame import report_frames
from spf_net.lung_regressor import load_regressor
from spf_net.metrics import check_scores, macro_auroc
from spf_net.network import build_network, count_parameters
from spf_net.predict import predict
from spf_net.run_log import RunLog

# What a resumed run may change: none of it alters what an epoch does.
_MAY_CHANGE = {
    "config.data.root",
    "config.data.cache",
    "config.output",
    "config.resume",
    "config.overwrite",
    "config.training.epochs",
    "config.training.patience",
    "config.training.max_minutes",
    "config.training.resamples",
    "config.training.accelerator",
    "config.training.num_workers",
    "config.training.timeout",
}

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class TrainingResult:
    """A trained network on the test part.

    Attributes:
        rows: int64 (N,), the rows of the data set that are the test part.
        scores: float32 (N, L), their logits with the best weights.
        epochs: Number of epochs done.
        best_epoch: The one whose weights were taken.
        stopped_by: Why training ended.
        seconds_a_step: Median over the epochs.
        seconds: Of all epochs together.
        parameters: Number of trainable parameters.
    """

    rows: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    epochs: int
    best_epoch: int
    stopped_by: StopReason
    seconds_a_step: float
    seconds: float
    parameters: int


def train(config: RunConfig, dataset: XrayDataset, fabric: Fabric) -> TrainingResult:
    """Train until the validation loss stops falling, then score the test part with the best weights.

    Args:
        config: All settings; `config.data` has been built into `dataset`.
        dataset: What to train on.
        fabric: From `spf_net.launch.start_fabric`.

    Raises:
        FileExistsError: If `config.output` holds a run, and neither `resume` nor `overwrite` is set.
        FileNotFoundError: If there is no lung regressor where the settings say.
        ValueError: If sizes do not fit together, no image has the lung boxes that the frame needs, or a resumed run had
            other settings.
        FloatingPointError: If the loss is no longer finite.
    """
    return _Trainer(config, dataset, fabric).run()


class _Trainer:
    def __init__(self, config: RunConfig, dataset: XrayDataset, fabric: Fabric) -> None:
        self.config, self.dataset, self.fabric = config, dataset, fabric
        self.training = config.training
        self.parts = dataset.parts(self.training.split, self.training.seed)
        for part, rows in self.parts.items():
            if len(rows) < fabric.world_size:
                raise ValueError(
                    f"split must leave an image of {part} for each of {fabric.world_size} processes, "
                    f"got {self.training.split}"
                )
        # All processes get equally many images: none twice, the few that are left over sit an epoch out.
        self.sampler: DistributedSampler[Any] = DistributedSampler(
            Subset(dataset, self.parts["train"].tolist()),
            fabric.world_size,
            fabric.global_rank,
            seed=self.training.seed,
            drop_last=True,
        )
        network = build_network(
            config.extractor,
            config.head,
            dataset.channels,
            dataset.image_size,
            len(dataset.label_set),
            self.training.seed,
            config.optimizer.grad_mode,
            config.frame,
        )
        self.parameters = count_parameters(network)
        share_network(network, config)
        optimizer = _build_optimizer(config.optimizer, network, self.training.seed)
        self.network, self.optimizer = fabric.setup(network, optimizer)
        self.pos_weight: Tensor | None = None
        if self.training.class_weights:
            self.pos_weight = positive_weights(dataset.labels[self.parts["train"]]).to(fabric.device)
        self.folder = config.output / "checkpoints"
        self.history: list[EpochRow] = []
        # What a resumed run must have been started with.
        self.settings: dict[str, Any] = {
            "config": config_to_dict(config),
            "labels": [asdict(label) for label in dataset.label_set.labels],
            "split": split_hash(dataset.patients.tolist(), part_of_rows(self.parts)),
        }

    def run(self) -> TrainingResult:
        self._report_frames()
        self._start()
        log = RunLog(self.config.output, len(self.history)) if self.fabric.is_global_zero else None
        while (reason := stop_reason(self.history, self.training)) is None:
            self._epoch(len(self.history) + 1)
            if log is not None:
                # Before the commit: a crash in between repeats the epoch and its row, and never leaves the row out.
                log.write(self.history)
            self._save()
            self.fabric.barrier()
        if log is not None:
            log.close()
        self._load_weights(load_checkpoint(self.folder, best=True).model)
        return TrainingResult(
            self.parts["test"],
            self._predict("test"),
            len(self.history),
            best_epoch(self.history),
            reason,
            seconds_a_step(self.history),
            sum(row["seconds"] for row in self.history),
            self.parameters,
        )

    def _report_frames(self) -> None:
        if self.config.frame.source == "lungs":
            self.fabric.print(report_frames(self.dataset.lung_boxes, "'image' or 'predicted'"))

    def _start(self) -> None:
        """Go on from the last checkpoint, or make sure that there is none."""
        exists = has_checkpoint(self.folder)
        # All processes look before the first one deletes or writes anything.
        self.fabric.barrier()
        if exists and self.config.resume:
            self._resume()
        elif exists and not self.config.overwrite:
            raise FileExistsError(
                f"{self.config.output} holds a run: pass --resume to go on with it, --overwrite to replace it, or "
                "another --output"
            )
        else:
            self._load_lung_regressor()
            if self.fabric.is_global_zero:
                if self.config.resume:
                    tqdm.write(f"{self.config.output} holds no checkpoint to resume: starting anew")
                shutil.rmtree(self.folder, ignore_errors=True)
        self.fabric.barrier()

    def _load_lung_regressor(self) -> None:
        own, folder = self.network.module.lung_regressor, self.config.frame.regressor
        if own is None or folder is None:
            return
        trained = load_regressor(folder)
        if trained.channels != own.channels:
            raise ValueError(f"{folder} must be for images of {own.channels} channels, got {trained.channels}")
        own.load_state_dict(trained.state_dict())

    def _resume(self) -> None:
        checkpoint = load_checkpoint(self.folder)
        now, then = _flat(self.settings), _flat(checkpoint.state["settings"])
        changed = sorted(name for name in now.keys() | then.keys() if now.get(name) != then.get(name))
        if changed := [name for name in changed if name not in _MAY_CHANGE]:
            differences = [
                f"{name.removeprefix('config.')} was {then.get(name)!r}, got {now.get(name)!r}" for name in changed
            ]
            raise ValueError(f"{self.config.output} can not be resumed with other settings: {', '.join(differences)}")
        self._load_weights(checkpoint.model)
        load_optimizer_state_dict(self.network.module, self.optimizer, dict(checkpoint.optimizer))
        self.fabric.strategy.precision.load_state_dict(checkpoint.state["precision"])
        self.history = list(checkpoint.state["history"])
        if self.fabric.is_global_zero:
            tidy(self.folder)
            tqdm.write(f"resumed after epoch {len(self.history)} from {self.config.output}")

    def _save(self) -> None:
        precision = self.fabric.strategy.precision.state_dict()
        state = {"settings": self.settings, "history": self.history, "precision": precision}
        weights = gather_state_dict(self.network.module)
        optimizer = gather_optimizer_state_dict(self.network.module, self.optimizer)
        if self.fabric.is_global_zero:
            epoch, best = len(self.history), best_epoch(self.history)
            save_checkpoint(self.folder, Checkpoint(epoch, best, weights, optimizer, state))

    def _load_weights(self, weights: Mapping[str, Tensor]) -> None:
        self.network.module.load_state_dict(weights)

    def _predict(self, part: str) -> npt.NDArray[np.float32]:
        return predict(
            self.fabric,
            self.network,
            self.dataset,
            self.parts[part],
            self.training.batch_size,
            self.training.num_workers,
        )

    def _epoch(self, epoch: int) -> None:
        """Train and validate once, and add a row to the history."""
        started = time.perf_counter()
        seed = _epoch_seed(self.training.seed, epoch, self.fabric.global_rank)
        devices = [self.fabric.device] if self.fabric.device.type == "cuda" else []
        # Dropout draws from the global random state, so each epoch seeds it anew: nothing of it needs saving.
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            loss, reconstruction, seconds = self._steps(epoch, torch.Generator().manual_seed(seed))
        scores = self._predict("validation")
        labels = self.dataset.labels[self.parts["validation"]]
        pos_weight = None if self.pos_weight is None else self.pos_weight.cpu()
        macro = macro_auroc(*check_scores(scores, labels.numpy()), np.ones((1, len(scores))))
        row = EpochRow(
            epoch=epoch,
            train_loss=loss,
            reconstruction_loss=reconstruction,
            validation_loss=float(masked_bce(torch.from_numpy(scores), labels, pos_weight)),
            validation_macro_auroc=float(macro[0]),
            seconds_a_step=seconds,
            seconds=time.perf_counter() - started,
        )
        # Whether to stop follows from the history, so all processes must have the same one.
        self.history.append(self.fabric.broadcast(row))
        if self.fabric.is_global_zero:
            tqdm.write(describe(self.history[-1], self.training, best=best_epoch(self.history) == epoch))

    def _steps(self, epoch: int, generator: torch.Generator) -> tuple[float, float, float]:
        """All steps of an epoch.

        Returns:
            Mean classification loss, mean reconstruction loss, seconds a step.
        """
        self.sampler.set_epoch(epoch)
        loader = DataLoader(
            self.sampler.dataset,
            self.training.batch_size,
            sampler=self.sampler,
            num_workers=self.training.num_workers,
            generator=generator,
        )
        self.network.train()
        # Summed on the device: reading a value each step would make a GPU wait.
        losses = torch.zeros(2, device=self.fabric.device)
        started = time.perf_counter()
        quiet = None if self.fabric.is_global_zero else True
        bar = tqdm(loader, f"epoch {epoch}/{self.training.epochs}", leave=False, disable=quiet)
        for batches in _in_groups(bar, self.training.accumulation):
            losses += self._step(batches, generator)
        steps = -(-len(loader) // self.training.accumulation)
        averaged: Tensor = self.fabric.all_reduce(losses / steps)  # type: ignore[assignment]
        loss, reconstruction = averaged.tolist()
        if not math.isfinite(loss + reconstruction):
            raise FloatingPointError(
                f"the loss is not finite in epoch {epoch}: classification {loss}, reconstruction {reconstruction}; "
                f"lower the learning rate ({self.config.optimizer.lr})"
            )
        return loss, reconstruction, (time.perf_counter() - started) / steps

    def _step(self, batches: list[Sample], generator: torch.Generator) -> Tensor:
        """One step on all `batches` together.

        Returns:
            (2,) classification and reconstruction loss.
        """
        known = self._known_labels(batches)
        images = sum(len(batch["image"]) for batch in batches)
        losses = torch.zeros(2, device=self.fabric.device)
        self.optimizer.zero_grad()
        for number, batch in enumerate(batches, start=1):
            with self.fabric.no_backward_sync(self.network, enabled=number < len(batches)):
                losses += self._backward(batch, known, len(batch["image"]) / images, generator)
        self.optimizer.step()
        return losses

    def _backward(self, batch: Sample, known: Tensor, share: float, generator: torch.Generator) -> Tensor:
        """Add the gradients of one batch; its losses are its parts of those of the whole step.

        Args:
            batch: Images, labels and lungs.
            known: From `_known_labels`.
            share: Of the batch in the images of the step.
            generator: Of the augmentation.
        """
        images, labels, lungs = self._augmented(batch, generator)
        logits, reconstruction = self.network(images, lungs)
        classification = masked_bce(logits, labels, self.pos_weight, known)
        reconstruction = reconstruction * share
        self.fabric.backward(classification + self.config.head.reconstruction_weight * reconstruction)
        return torch.stack([classification.detach(), reconstruction.detach().to(classification)])

    def _augmented(self, batch: Sample, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        device, mirrored = self.fabric.device, self.dataset.label_set.mirror
        images, labels, lungs = batch["image"].to(device), batch["labels"].to(device), batch["lungs"].to(device)
        images, labels, lungs = random_mirror(images, labels, lungs, mirrored, self.training.flip, generator)
        images, lungs = rotate_and_shift(images, lungs, self.training.rotation, self.training.shift, generator)
        return images, labels, lungs

    def _known_labels(self, batches: list[Sample]) -> Tensor:
        """How many labels are known in the step of all processes together, for each process.

        Divided by it, the mean over the processes is the loss of the whole step, however the labels are spread.
        """
        count = torch.stack([batch["labels"].isfinite().sum() for batch in batches]).sum().float()
        known: Tensor = self.fabric.all_reduce(count.to(self.fabric.device), reduce_op="sum")  # type: ignore[assignment]
        return known.clamp(min=1) / self.fabric.world_size


def _build_optimizer(config: OptimizerConfig, network: nn.Module, seed: int) -> NAdam:
    return NAdam(
        network.parameters(),
        config.lr,
        config.betas,
        config.eps,
        config.weight_decay,
        decoupled_weight_decay=True,
        state_dtype=None if config.state_dtype is None else _DTYPES[config.state_dtype],
        seed=int(np.random.SeedSequence(seed).generate_state(1)[0]),
    )


def _in_groups(batches: Iterable[Sample], size: int) -> Iterator[list[Sample]]:
    """`size` batches at a time; the last group may have fewer."""
    remaining = iter(batches)
    while group := list(islice(remaining, size)):
        yield group


def _epoch_seed(seed: int, epoch: int, rank: int) -> int:
    return int(np.random.SeedSequence([seed, epoch, rank]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} becomes {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
