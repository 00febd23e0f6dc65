"""The model of a training step's bytes: against the peaks of processes of their own, and what the command prints."""

import json
import re
import shlex
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from spf_kernels import footprint
from spf_kernels.__main__ import main
from spf_kernels.factors import Contents
from spf_kernels.footprint import Footprint, Training, break_even_batch, footprints

from .helpers import needs_native

DOCS = Path(__file__).resolve().parents[2] / "docs" / "memory.md"
# its maps, of which a wrong model has one set too many or too few, are some times the noise of 8 MB
TRAINING = Training(num_maps=24, pixels=64 * 64, code_size=128, batch=80)
MODES = {
    footprint.TORCH_DENSE: footprint.dense_torch,
    footprint.DENSE: footprint.dense,
    footprint.FACTORED: footprint.factored,
    footprint.FACTORED_BF16_STATE: lambda training: footprint.factored(replace(training, state_bytes=2)),
    footprint.INFERENCE: footprint.inference,
}
RANKS = 2

MEASURE = """
import json, sys
from pathlib import Path
import torch
from spf_kernels import SPFAutoencoder, SPFFlatten
from spf_kernels.distributed import shard_maps
from spf_kernels.optim import NAdam

def resident(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))

def run(mode, autoencoder, num_maps, side, code_size, batch):
    grad_mode = "factored" if mode.startswith("factored") else "dense"
    module = (SPFAutoencoder if autoencoder else SPFFlatten)(num_maps, side, code_size, "tanh", grad_mode=grad_mode)
    if ranks > 1:
        shard_maps(module)
    maps = torch.rand(batch, num_maps, side, side, requires_grad=mode != "inference")
    if mode == "inference":
        with torch.no_grad():
            module(maps)
        return
    if "torch" in mode:
        optimizer = torch.optim.NAdam(module.parameters(), foreach=True)
    else:
        optimizer = NAdam(module.parameters(), state_dtype=torch.bfloat16 if "bfloat16" in mode else None)
    for _ in range(2):
        optimizer.zero_grad()
        maps.grad = None
        output = module(maps)
        loss = output.codes.square().mean() + output.loss if autoencoder else output.square().mean()
        loss.backward()
        optimizer.step()

mode, autoencoder, *sizes, rank, ranks, store = json.loads(sys.argv[1])
if ranks > 1:
    torch.distributed.init_process_group("gloo", init_method="file://" + store, rank=rank, world_size=ranks)
# libraries, threads and torch's own caches
run(mode, autoencoder, 2, 4, 4, 2)
before = resident("VmRSS")
run(mode, autoencoder, *sizes)
print(resident("VmHWM") - before)
if ranks > 1:
    torch.distributed.destroy_process_group()
"""


on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads VmHWM from /proc/self/status")
kinds = pytest.mark.parametrize("autoencoder", [False, True], ids=["encoders", "auto-encoders"])


def measure(fresh_python, mode, training, rank=0, ranks=1, store=""):
    """How much a process grows from after a tiny training to the peak of this one, in bytes."""
    sizes = [training.num_maps, 64, training.code_size, training.batch]
    arguments = json.dumps([mode, training.autoencoder, *sizes, rank, ranks, str(store)])
    # freed tensors go back to the system at once, so that only live ones count
    environment = {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
    done = fresh_python(f"import sys; sys.argv = ['-c', {arguments!r}]\n{MEASURE}", **environment)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def check(measured, predicted, training):
    """Within half of one set of maps, 16 MB of 80 to 580."""
    tolerance = training.maps * training.element_bytes / 2
    assert abs(measured - predicted) < tolerance, f"measured {measured / 1e6} MB, predicted {predicted / 1e6} MB"


@needs_native
@on_linux
@kinds
@pytest.mark.parametrize("mode", MODES)
def test_the_peak_of_a_process_is_as_predicted(fresh_python, mode, autoencoder):
    training = replace(TRAINING, autoencoder=autoencoder)
    check(measure(fresh_python, mode, training), MODES[mode](training).total, training)


@needs_native
@on_linux
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
@kinds
def test_the_peak_of_a_rank_is_as_predicted(fresh_python, autoencoder, tmp_path):
    training = replace(TRAINING, autoencoder=autoencoder)
    predicted = footprint.sharded(training, RANKS)
    with ThreadPoolExecutor(RANKS) as pool:
        ranks = [
            pool.submit(measure, fresh_python, predicted.mode, training, rank, RANKS, tmp_path / "store")
            for rank in range(RANKS)
        ]
    for rank in ranks:
        check(rank.result(), predicted.total, training)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (footprint.TORCH_DENSE, 20),
        (footprint.DENSE, 16),
        (footprint.FACTORED, 12),
        (footprint.FACTORED_BF16_STATE, 8),
        (footprint.INFERENCE, 4),
    ],
)
@pytest.mark.parametrize("autoencoder", [False, True])
def test_bytes_a_parameter(mode, expected, autoencoder):
    # pixels and codes by the thousand, so that biases and maps hardly count
    training = Training(4, 1 << 16, 1 << 12, batch=1, autoencoder=autoencoder)
    assert MODES[mode](training).total / training.weights == pytest.approx(expected, rel=2e-3)


def test_of_many_ranks_each_has_its_share_of_the_weights_and_the_maps_twice():
    training = Training(8, 4096, 128, batch=3)
    whole, share = footprint.factored(training), footprint.sharded(training, 4)
    assert (share.weights, share.state) == (whole.weights // 4, whole.state // 4)
    assert share.maps == 2 * whole.maps
    assert share.temporary == training.maps * 4
    # 8 maps on 3 ranks: one has 3 of them
    assert footprint.sharded(training, 3).weights == whole.weights // 8 * 3


def test_narrow_elements():
    training = Training(8, 4096, 128, batch=3, autoencoder=True)
    narrow = replace(training, element_bytes=2, state_bytes=2)
    wide = {found.mode: found.total for found in footprints(training, 1)}
    assert {found.mode: 2 * found.total for found in footprints(narrow, 1)} == {
        # the state is narrow anyway: no mode of its own for it
        mode: total
        for mode, total in wide.items()
        if mode != footprint.FACTORED_BF16_STATE
    }


def test_a_card_holds_what_is_not_larger_than_it():
    assert Footprint("", 15 * 10**9, 0, 10**9, 0).cards() == [16, 24, 80, 141]
    assert Footprint("", 15 * 10**9, 0, 10**9, 1).cards() == [24, 80, 141]
    assert Footprint("", 141 * 10**9, 0, 0, 0, 1).cards() == []


@pytest.mark.parametrize(("code_size", "pixels"), [(128, 4096), (8, 8), (3, 100), (1, 1), (32, 17)])
def test_break_even_is_where_a_factored_gradient_becomes_dense(code_size, pixels):
    batch = break_even_batch(code_size, pixels)
    contents = Contents(torch.empty(0, 1, code_size), torch.empty(0, 1, pixels), None, torch.float32)
    assert contents.outweigh_dense(batch)
    assert not contents.outweigh_dense(batch - 1)


@pytest.mark.parametrize("name", ["num_maps", "pixels", "code_size", "batch", "element_bytes", "state_bytes"])
def test_sizes_below_one_are_errors(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        replace(TRAINING, **{name: 0})


@pytest.mark.parametrize("ranks", [0, 25])
def test_ranks_without_maps_are_errors(ranks):
    with pytest.raises(ValueError, match=f"ranks must be from 1 to the number of maps 24, got {ranks}"):
        footprint.sharded(TRAINING, ranks)


def printed_by(capsys, command):
    main(shlex.split(command))
    return capsys.readouterr().out


def test_the_command_prints_every_part(capsys):
    printed = printed_by(capsys, "memory --maps 128 --map-size 512 --code-size 128 --batch 12 --ranks 4")
    assert "| dense, torch.optim.NAdam | 17.2 | 17.2 | 34.4 | 3.22 | 17.2 | 89.1 | 141 |" in printed
    assert "| factored, bfloat16 state | 17.2 | 0.00 | 17.2 | 3.22 | 0.00 | 37.6 | 80, 141 |" in printed
    assert "sharded over 4 ranks" in printed
    assert "from a batch of 128 on" in printed


def test_several_sizes_are_compared(capsys):
    command = "memory --map-size 64x48 512 --code-size 128 --autoencoder --dtype bfloat16 --state-dtype float32"
    lines = printed_by(capsys, command).splitlines()
    assert "auto-encoders, bfloat16, momentum and variance in float32" in lines[0]
    assert [line.split(" | ")[0] for line in lines[-2:]] == ["| 64x48", "| 512"]
    assert "(16)" in lines[-2]
    assert "(141)" in lines[-1]


def test_one_rank_has_no_sharded_mode(capsys):
    assert "sharded" not in printed_by(capsys, "memory --ranks 1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--map-size", "4x"], "map-size must be a number or HEIGHTxWIDTH, got '4x'"),
        (["--map-size", "4x4x4"], "got '4x4x4'"),
        (["--batch", "0"], "batch must be at least 1, got 0"),
        (["--maps", "4"], "ranks must be from 1 to the number of maps 4, got 8"),
        (["--dtype", "float8"], "invalid choice: 'float8'"),
    ],
)
def test_wrong_arguments_are_explained(capsys, arguments, message):
    with pytest.raises(SystemExit) as exit_status:
        main(["memory", *arguments])
    assert exit_status.value.code == 2
    assert message in capsys.readouterr().err


def test_without_a_command_there_is_the_report(capsys):
    main()
    assert "backend requested" in capsys.readouterr().out


def test_the_tables_in_the_documentation_are_the_commands(capsys):
    text = DOCS.read_text()
    commands = re.findall(r"^python -m spf_kernels (memory .*)$", text, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        table = [line for line in printed_by(capsys, command).splitlines() if line.startswith("|")]
        assert "\n".join(table) in text, f"docs/memory.md does not hold what `{command}` prints"


def test_the_batches_in_the_documentation_are_the_break_even():
    lines = DOCS.read_text().splitlines()
    for side in (16, 32, 64, 512):
        batches = [str(break_even_batch(code_size, side * side)) for code_size in (32, 128, 256)]
        assert f"| {side}x{side} | {' | '.join(batches)} |" in lines
