"""What happened in each epoch, and what follows from it: the best epoch and whether to stop."""

from collections.abc import Sequence
from statistics import median
from typing import Literal, TypedDict

from spf_net.config import TrainingConfig

StopReason = Literal["patience", "epochs", "time"]


class EpochRow(TypedDict):
    """One epoch.

    Keys:
        epoch: Counts from 1.
        train_loss: Mean classification loss of the steps.
        reconstruction_loss: Mean of the head's own loss, before its weight.
        validation_loss: Classification loss of the validation part.
        validation_macro_auroc: Mean over the labels where it is defined.
        seconds_a_step: Of training alone.
        seconds: Of the whole epoch with its validation.
    """

    epoch: int
    train_loss: float
    reconstruction_loss: float
    validation_loss: float
    validation_macro_auroc: float
    seconds_a_step: float
    seconds: float


def best_epoch(history: Sequence[EpochRow]) -> int:
    """The first epoch with the lowest validation loss."""
    return min(history, key=lambda row: row["validation_loss"])["epoch"]


def stop_reason(history: Sequence[EpochRow], training: TrainingConfig) -> StopReason | None:
    """Why training ends after the last epoch of `history`, or None where it goes on."""
    if not history:
        return None
    if history[-1]["epoch"] - best_epoch(history) >= training.patience:
        return "patience"
    if history[-1]["epoch"] >= training.epochs:
        return "epochs"
    if training.max_minutes is not None and sum(row["seconds"] for row in history) >= 60 * training.max_minutes:
        return "time"
    return None


def seconds_a_step(history: Sequence[EpochRow]) -> float:
    """Median over the epochs: the first one warms up."""
    return median(row["seconds_a_step"] for row in history)


def describe(row: EpochRow, training: TrainingConfig, *, best: bool) -> str:
    """The line printed after an epoch."""
    return (
        f"epoch {row['epoch']}/{training.epochs}: loss {row['train_loss']:.4f}, "
        f"reconstruction {row['reconstruction_loss']:.4f}, validation loss {row['validation_loss']:.4f}, "
        f"macro AUROC {row['validation_macro_auroc']:.3f}, {row['seconds_a_step'] * 1000:.0f} ms a step"
        + (" (best)" if best else "")
    )
