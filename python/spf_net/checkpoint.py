"""Checkpoints that a crash can not damage, without pickle.

A checkpoint is a folder:

    model.safetensors      weights
    optimizer.safetensors  tensors of the optimizer's state, named <parameter>.<key>
    state.json             everything else

It is written under a temporary name, flushed to the disk and renamed to `epoch-NNNN`; then the symbolic link `last`
moves to it in one atomic replacement. That move is the commit: at any moment `last` leads to a complete checkpoint,
whose state says which epoch is the best one. The link `best` follows for those who look for the weights.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import load, save
from torch import Tensor

FORMAT = 1
LAST, BEST = "last", "best"
_TEMPORARY = ".writing-"


class Checkpoint(NamedTuple):
    """What a checkpoint holds.

    Attributes:
        epoch: Number of epochs done.
        best_epoch: The epoch with the best weights so far.
        model: A module's `state_dict()`.
        optimizer: An optimizer's `state_dict()`.
        state: Plain values for JSON.
    """

    epoch: int
    best_epoch: int
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    state: Mapping[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint and make it the last one; only the best one is kept beside it.

    Args:
        folder: Where all checkpoints of the run are; created if missing.
        checkpoint: What to write.

    Raises:
        TypeError: If a value is neither a tensor nor plain.
        OSError: If it can not be written, because the disk is full, say; the last checkpoint is as it was.
    """
    tensors, plain = flatten_optimizer(checkpoint.optimizer)
    document = {
        "format": FORMAT,
        "epoch": checkpoint.epoch,
        "best_epoch": checkpoint.best_epoch,
        "optimizer": plain,
        "state": checkpoint.state,
    }
    files = {
        "model.safetensors": save({name: tensor.contiguous() for name, tensor in checkpoint.model.items()}),
        "optimizer.safetensors": save(tensors),
        "state.json": json.dumps(document, indent=1).encode(),
    }
    final = folder / _name(checkpoint.epoch)
    _write_folder(final, files)
    _link(folder / LAST, final.name)
    tidy(folder)


def _write_folder(final: Path, files: Mapping[str, bytes]) -> None:
    temporary = final.with_name(f"{_TEMPORARY}{final.name}")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        for leftover in (temporary, final):
            # A crash before the commit leaves these behind; `last` leads to neither.
            if leftover.exists():
                shutil.rmtree(leftover)
        temporary.mkdir()
        for name, content in files.items():
            _write_and_sync(temporary / name, content)
        sync(temporary)
        temporary.rename(final)
        sync(final.parent)
    except OSError as error:
        # What is half written is of no use, and the disk may be full.
        shutil.rmtree(temporary, ignore_errors=True)
        raise OSError(f"{error}; the checkpoint before {final.name} is as it was") from error


def has_checkpoint(folder: Path) -> bool:
    """Whether there is a checkpoint to go on from."""
    return (folder / LAST).exists()


def load_checkpoint(folder: Path, *, best: bool = False) -> Checkpoint:
    """Read the last or the best checkpoint of a run.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it has another format.
    """
    chosen = folder / LAST
    document = _read_document(chosen)
    if best:
        chosen = folder / _name(document["best_epoch"])
        document = _read_document(chosen)
    tensors = load((chosen / "optimizer.safetensors").read_bytes())
    return Checkpoint(
        document["epoch"],
        document["best_epoch"],
        load((chosen / "model.safetensors").read_bytes()),
        unflatten_optimizer(tensors, document["optimizer"]),
        document["state"],
    )


def tidy(folder: Path) -> None:
    """Let the link `best` follow, and delete what neither the last checkpoint nor its best epoch needs."""
    document = _read_document(folder / LAST)
    _link(folder / BEST, _name(document["best_epoch"]))
    kept = {_name(document["epoch"]), _name(document["best_epoch"])}
    for other in folder.glob("epoch-*"):
        if other.name not in kept:
            shutil.rmtree(other)
    for leftover in folder.glob(f"{_TEMPORARY}epoch-*"):
        shutil.rmtree(leftover)


def _name(epoch: int) -> str:
    return f"epoch-{epoch:04d}"


def _read_document(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "state.json").read_bytes())
    if document.get("format") != FORMAT:
        raise ValueError(f"{folder} must have checkpoint format {FORMAT}, got {document.get('format')}")
    return document


def flatten_optimizer(state_dict: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split an optimizer's state_dict into tensors, named <parameter>.<key>, and plain values for JSON."""
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, dict[str, Any]] = {}
    for parameter, values in state_dict["state"].items():
        scalars[str(parameter)] = {}
        for key, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{parameter}.{key}"] = value.contiguous()
            else:
                scalars[str(parameter)][key] = value
    return tensors, {"state": scalars, "param_groups": state_dict["param_groups"]}


def unflatten_optimizer(tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> dict[str, Any]:
    """Undo `flatten_optimizer`."""
    state: dict[int, dict[str, Any]] = {int(parameter): dict(values) for parameter, values in plain["state"].items()}
    for name, tensor in tensors.items():
        parameter, _, key = name.partition(".")
        state[int(parameter)][key] = tensor
    return {"state": state, "param_groups": plain["param_groups"]}


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file as a whole: whatever happens, the old or the new content is there.

    Raises:
        OSError: If it can not be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{_TEMPORARY}{path.name}")
    _write_and_sync(temporary, content)
    temporary.replace(path)
    sync(path.parent)


def _write_and_sync(path: Path, content: bytes) -> None:
    try:
        with path.open("wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
    except OSError as error:
        # The system's own error does not say which file it is about.
        raise OSError(f"could not write {path}: {error}") from error


def sync(path: Path) -> None:
    """Bring a file, or the entries of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _link(link: Path, target: str) -> None:
    temporary = link.with_name(f"{_TEMPORARY}{link.name}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)
    sync(link.parent)
