"""Two processes train like one with batches twice as large, and neither outlives the other."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from spf_net.checkpoint import Checkpoint, load_checkpoint

from .forks import PYTHON, STEPPING, TINY, Forks, lines_run

# An odd number of maps, and nothing that each process draws for itself. Two can share the images of `DATA` evenly.
STILL = [
    *TINY,
    *("--extractor=convolutional", "--extractor.widths=[4]", "--extractor.num_maps=3", "--extractor.dropout=0"),
    *("--training.rotation=0", "--training.shift=0", "--optimizer.lr=0.001"),
]
WAYS = {
    "ddp-dense": ["--strategy=ddp", "--optim.grad_mode=dense"],
    "ddp-factored": ["--strategy=ddp", "--optim.grad_mode=factored"],
    "map_parallel": ["--strategy=map_parallel"],
}
# In float32 sums in another order move weights whose gradient is next to nothing.
TOLERANCES = {"64-true": 1e-9, "32-true": 1e-5}


def last(run: Path) -> Checkpoint:
    return load_checkpoint(run / "checkpoints")


def losses(run: Path) -> torch.Tensor:
    names = ("train_loss", "reconstruction_loss", "validation_loss", "validation_macro_auroc")
    return torch.tensor([[row[name] for name in names] for row in last(run).state["history"]], dtype=torch.float64)


@pytest.fixture(scope="module", params=TOLERANCES)
def alone(request: pytest.FixtureRequest, forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("alone")
    arguments = [*STILL, "--training.batch_size=8", f"--precision={request.param}", f"--output={folder / 'run'}"]
    assert forks.run(arguments, folder / "log") == 0
    return folder / "run", request.param


@pytest.mark.parametrize("way", WAYS)
def test_two_processes_do_what_one_does(forks: Forks, alone: tuple[Path, str], tmp_path: Path, way: str) -> None:
    single, precision = alone
    run = tmp_path / "run"
    arguments = [*STILL, "--training.batch_size=4", f"--precision={precision}", f"--output={run}", *WAYS[way]]
    assert forks.run_ranks(arguments, tmp_path) == [0, 0]
    tolerance = TOLERANCES[precision]
    # Losses are summed in float32 whatever the weights are.
    torch.testing.assert_close(losses(run), losses(single), rtol=1e-6, atol=0)
    one, two = last(single), last(run)
    assert one.model.keys() == two.model.keys()
    for name, weight in one.model.items():
        torch.testing.assert_close(two.model[name], weight, rtol=0, atol=tolerance)
    for index, values in one.optimizer["state"].items():
        assert {name: value.shape for name, value in values.items()} == {
            name: value.shape for name, value in two.optimizer["state"][index].items()
        }


def test_one_process_prints_and_writes(forks: Forks, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert forks.run_ranks([*TINY, "--strategy=ddp", f"--output={run}"], tmp_path) == [0, 0]
    first, second = ((tmp_path / name).read_text() for name in ("rank0", "rank1"))
    assert first.count("epoch 3/3: loss") == first.count("| all ") == 1
    assert [line for line in second.splitlines() if not line.startswith("Initializing distributed")] == []
    assert len(list((run / "tensorboard").iterdir())) == 1


@pytest.fixture(scope="module", params=WAYS)
def undisturbed(
    request: pytest.FixtureRequest, forks: Forks, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    arguments = [*TINY, "--optim.state_dtype=bfloat16", *WAYS[request.param]]
    assert forks.run_ranks([*arguments, f"--output={folder / 'run'}"], folder) == [0, 0]
    return folder, arguments


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_other_and_the_run_goes_on_bit_by_bit(
    forks: Forks, undisturbed: tuple[Path, list[str]], tmp_path: Path, killed: int
) -> None:
    whole, arguments = undisturbed
    arguments = [*arguments, f"--output={tmp_path / 'run'}"]
    # In the last epoch.
    moment = int(0.8 * sum(lines_run(whole / f"rank{killed}")[name] for name in STEPPING))
    codes = forks.run_ranks(arguments, tmp_path, {killed: (STEPPING, moment)})
    assert codes[killed] == -signal.SIGKILL
    assert codes[1 - killed] == 1
    said = (tmp_path / f"rank{1 - killed}").read_text()
    assert f"process {1 - killed} of 2: error: lost another process of this run" in said
    assert "Traceback" not in said
    assert last(tmp_path / "run").epoch == 2
    assert forks.run_ranks([*arguments, "--resume"], tmp_path) == [0, 0]
    for name in ("model.safetensors", "optimizer.safetensors"):
        parts = ("run", "checkpoints", "last", name)
        assert tmp_path.joinpath(*parts).read_bytes() == whole.joinpath(*parts).read_bytes()


def test_a_process_that_hangs_is_waited_for_no_longer_than_the_timeout(forks: Forks, tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = [*TINY, "--strategy=ddp", f"--output={run}", "--training.timeout=5", "--training.epochs=10000"]
    first, second = forks.start_ranks(arguments, tmp_path, {})
    while not (run / "checkpoints" / "last").exists():
        time.sleep(0.01)
    os.kill(second, signal.SIGSTOP)
    started = time.monotonic()
    assert forks.wait(first) == 1
    assert time.monotonic() - started < 15
    assert "error: lost another process of this run" in (tmp_path / "rank0").read_text()
    os.kill(second, signal.SIGKILL)
    assert forks.wait(second) == -signal.SIGKILL
    assert last(run).epoch >= 1


def test_one_command_starts_all_processes(tmp_path: Path) -> None:
    command = [sys.executable, str(PYTHON / "train.py"), *TINY, "--devices", "2", "--strategy", "ddp"]
    command += ["--training.batch_size", "4", "--output", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("epoch 3/3: loss") == 1
    assert last(tmp_path).epoch == 3
