"""Checkpoints: nothing lost on the way, and a crash at any moment leaves a complete one."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from spf_net import checkpoint as module
from spf_net.checkpoint import Checkpoint, has_checkpoint, load_checkpoint, save_checkpoint, write_atomically


def trained(steps: int) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.NAdam(layer.parameters(), lr=0.1, eps=1e-7)
    for _ in range(steps):
        layer(torch.rand(4, 3)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return layer, optimizer


def checkpoint(epoch: int, best_epoch: int) -> Checkpoint:
    layer, optimizer = trained(epoch)
    return Checkpoint(epoch, best_epoch, layer.state_dict(), optimizer.state_dict(), {"note": f"epoch {epoch}"})


def is_complete(folder: Path, epoch: int) -> bool:
    expected, loaded = checkpoint(epoch, 0), load_checkpoint(folder)
    same = all(torch.equal(tensor, loaded.model[name]) for name, tensor in expected.model.items())
    return same and loaded.epoch == epoch and loaded.state == expected.state


def test_everything_comes_back_bit_by_bit(tmp_path: Path) -> None:
    saved = checkpoint(3, 3)
    save_checkpoint(tmp_path, saved)
    loaded = load_checkpoint(tmp_path)
    assert is_complete(tmp_path, 3)
    _, optimizer = trained(0)
    optimizer.load_state_dict(dict(loaded.optimizer))
    restored = optimizer.state_dict()
    for parameter, values in saved.optimizer["state"].items():
        assert all(torch.equal(tensor, restored["state"][parameter][key]) for key, tensor in values.items())
    for group, expected in zip(restored["param_groups"], saved.optimizer["param_groups"], strict=True):
        assert {key: tuple(value) if isinstance(value, list) else value for key, value in group.items()} == {
            key: tuple(value) if isinstance(value, list) else value for key, value in expected.items()
        }


def test_the_best_epoch_is_kept_beside_the_last(tmp_path: Path) -> None:
    for epoch, best in [(1, 1), (2, 2), (3, 2), (4, 2)]:
        save_checkpoint(tmp_path, checkpoint(epoch, best))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "epoch-0002", "epoch-0004", "last"]
    assert load_checkpoint(tmp_path).epoch == 4
    assert load_checkpoint(tmp_path, best=True).epoch == 2
    assert (tmp_path / "best").resolve().name == "epoch-0002"


# What saving does, in order: three files, two folders, the link `last`, then the tidying with the link `best`.
STEPS = ["_write_and_sync", "sync", "_link", "tidy"]


class CrashError(Exception):
    pass


@pytest.mark.parametrize("best", [2, 3])
@pytest.mark.parametrize("call", range(10))
def test_a_crash_at_any_step_leaves_a_complete_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int, best: int
) -> None:
    for epoch in (1, 2):
        save_checkpoint(tmp_path, checkpoint(epoch, epoch))
    calls: list[str] = []

    def crashing(original: Callable[..., None]) -> Callable[..., None]:
        def step(*arguments: Any) -> None:
            calls.append(original.__name__)
            if len(calls) == call + 1:
                raise CrashError
            original(*arguments)

        return step

    with monkeypatch.context() as patched:
        for name in STEPS:
            patched.setattr(module, name, crashing(getattr(module, name)))
        with pytest.raises(CrashError):
            save_checkpoint(tmp_path, checkpoint(3, best))
    survived = load_checkpoint(tmp_path).epoch
    assert survived in (2, 3)
    assert is_complete(tmp_path, survived)
    assert load_checkpoint(tmp_path, best=True).epoch == (best if survived == 3 else 2)
    save_checkpoint(tmp_path, checkpoint(3, best))
    assert is_complete(tmp_path, 3)
    assert load_checkpoint(tmp_path, best=True).epoch == best
    assert {path.name for path in tmp_path.iterdir()} == {"best", "last", f"epoch-000{best}", "epoch-0003"}


def test_a_half_written_file_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, checkpoint(1, 1))

    def full_disk(_: int) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full_disk)
        with pytest.raises(OSError, match="No space left"):
            save_checkpoint(tmp_path, checkpoint(2, 2))
        with pytest.raises(OSError, match="No space left"):
            write_atomically(tmp_path / "last" / "state.json", b"half")
    assert is_complete(tmp_path, 1)


def test_there_is_no_pickle(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint(1, 1))
    names = sorted(path.name for path in (tmp_path / "last").iterdir())
    assert names == ["model.safetensors", "optimizer.safetensors", "state.json"]


def test_state_that_is_not_plain_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint(1, 1))
    with pytest.raises(TypeError, match="not JSON serializable"):
        save_checkpoint(tmp_path, checkpoint(2, 2)._replace(state={"note": object()}))
    assert is_complete(tmp_path, 1)


def test_other_formats_are_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint(1, 1))
    state = tmp_path / "last" / "state.json"
    write_atomically(state, state.read_bytes().replace(b'"format": 1', b'"format": 99'))
    with pytest.raises(ValueError, match="must have checkpoint format 1, got 99"):
        load_checkpoint(tmp_path)


def test_no_checkpoint(tmp_path: Path) -> None:
    assert not has_checkpoint(tmp_path)
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path)
    save_checkpoint(tmp_path, checkpoint(1, 1))
    assert has_checkpoint(tmp_path)
    shutil.rmtree(tmp_path / "epoch-0001")
    assert not has_checkpoint(tmp_path)
