"""Whatever goes wrong, and whenever: a run goes on from its last whole epoch to the very same end."""

import csv
import errno
import json
import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest
import train
from spf_net.checkpoint import load_checkpoint

from .forks import SAVING, STEPPING, TINY, Forks, lines_run

FACTORED = [*TINY, "--optim.grad_mode=factored", "--optim.state_dtype=bfloat16"]
SEEDS = range(20)
TIMEOUT = 3


def ending(run: Path) -> dict[str, Any]:
    """All that a run leaves but the seconds it took, and the folder it is in."""
    last = load_checkpoint(run / "checkpoints")
    results = json.loads((run / "results.json").read_text())
    with (run / "metrics.csv").open() as opened:
        table = list(csv.DictReader(opened))
    for row in (results, *last.state["history"], *table):
        for name in ("seconds", "seconds_a_step"):
            row.pop(name, None)
    return {
        "weights": (run / "checkpoints" / "last" / "model.safetensors").read_bytes(),
        "optimizer": (run / "checkpoints" / "last" / "optimizer.safetensors").read_bytes(),
        "best": (run / "checkpoints" / "best" / "model.safetensors").read_bytes(),
        "checkpoints": sorted(path.name for path in (run / "checkpoints").iterdir()),
        "history": last.state["history"],
        "metrics.csv": table,
        "results.json": results,
    }


def same_ending(first: Path, second: Path) -> bool:
    one, other = ending(first), ending(second)
    different = [name for name, value in one.items() if other[name] != value]
    assert not different
    return True


@pytest.fixture(scope="module")
def undisturbed(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert forks.run([*FACTORED, f"--output={folder / 'run'}"], folder / "log") == 0
    return folder


@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_that_is_killed_and_resumed_ends_bit_by_bit_the_same(
    forks: Forks, undisturbed: Path, tmp_path: Path, seed: int
) -> None:
    files = (SAVING, STEPPING)[seed % 2]
    lines = sum(lines_run(undisturbed / "log")[name] for name in files)
    arguments = [*FACTORED, f"--output={tmp_path / 'run'}", "--resume"]
    moment = random.Random(seed).randint(1, lines)
    assert forks.run(arguments, tmp_path / "log", kill=(files, moment)) == -signal.SIGKILL
    assert not (tmp_path / "run" / "results.json").exists()
    assert forks.run(arguments, tmp_path / "log") == 0
    assert same_ending(tmp_path / "run", undisturbed / "run")


def test_a_run_that_is_killed_again_and_again_gets_there(forks: Forks, undisturbed: Path, tmp_path: Path) -> None:
    arguments = [*FACTORED, f"--output={tmp_path / 'run'}", "--resume"]
    drawn = random.Random(0)
    epoch = sum(lines_run(undisturbed / "log")[name] for name in SAVING) // 3
    codes = [
        forks.run(arguments, tmp_path / "log", kill=(SAVING, drawn.randint(epoch // 2, 2 * epoch))) for _ in range(8)
    ]
    assert codes[:3] == [-signal.SIGKILL] * 3
    assert codes[-1] == 0
    assert same_ending(tmp_path / "run", undisturbed / "run")


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_a_disk_that_is_full_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    arguments = [*TINY, f"--output={tmp_path}"]
    train.main([*arguments, "--training.epochs=1"])
    before = ending(tmp_path)
    really_open = Path.open

    def full(path: Path, *arguments: Any, **options: Any) -> Any:
        opened = really_open(path, *arguments, **options)
        return HalfWritten(opened) if path.name == name and "wb" in arguments else opened

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", full)
        with pytest.raises(SystemExit) as stopped:
            train.main([*arguments, "--resume"])
    assert "No space left on device" in str(stopped.value)
    assert f"{name}: [Errno 28]" in str(stopped.value)
    assert "the checkpoint before epoch-0002 is as it was" in str(stopped.value)
    assert {**ending(tmp_path), "metrics.csv": None} == {**before, "metrics.csv": None}
    train.main([*arguments, "--resume"])
    assert load_checkpoint(tmp_path / "checkpoints").epoch == 3


class HalfWritten:
    """A file on a disk that fills up while it is written."""

    def __init__(self, opened: Any) -> None:
        self.opened = opened

    def __enter__(self) -> "HalfWritten":
        return self

    def __exit__(self, *_: object) -> None:
        self.opened.close()

    def write(self, content: bytes) -> None:
        self.opened.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_that_the_system_refuses_to_write_in_full(forks: Forks, undisturbed: Path, tmp_path: Path) -> None:
    arguments = [*FACTORED, f"--output={tmp_path / 'run'}"]
    assert forks.run([*arguments, "--training.epochs=1"], tmp_path / "log") == 0
    before = (tmp_path / "run" / "checkpoints" / "last" / "model.safetensors").read_bytes()
    size = len(before) // 2
    assert forks.run([*arguments, "--resume"], tmp_path / "full", largest_file=size) == 1
    assert "error: could not write" in (tmp_path / "full").read_text()
    assert "Traceback" not in (tmp_path / "full").read_text()
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["best", "epoch-0001", "last"]
    assert (tmp_path / "run" / "checkpoints" / "last" / "model.safetensors").read_bytes() == before
    assert forks.run([*arguments, "--resume"], tmp_path / "log") == 0
    assert same_ending(tmp_path / "run", undisturbed / "run")
