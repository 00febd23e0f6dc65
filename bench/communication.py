"""What ranks send each other in a training step, by the way in which they work together.

`python -m bench.communication` starts two and four processes on this machine, counts, and writes
`results/communication.md`: some minutes, 8 GB. What more ranks send is computed.
"""

import os
import platform
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

import spf_kernels
from bench.cases import Case
from bench.files import write_atomically
from bench.markdown import table
from spf_kernels import SPFAutoencoder, SPFFlatten, distributed

RESULTS = Path(__file__).resolve().parent / "results" / "communication.md"
MAIN = Case(12, 64, 128, torch.float32)
RANKS = (2, 4, 8, 16, 32, 64)
MEASURED_RANKS = (2, 4)
# the number of weights (C, D, S)
LAYERS = {"encoder": 1, "auto-encoder": 2}
_LOOPBACK = Path("/proc/net/dev")
_PREFIX = "bytes sent: "


def sum_gradients(case: Case, layers: int, ranks: int) -> float:
    """All-reduce: twice round the ring, less one's own part."""
    return 2 * (ranks - 1) / ranks * layers * case.weight_bytes


def gather_factors(case: Case, layers: int, ranks: int) -> float:
    """All-gather: everybody's factors to everybody else."""
    factors = case.maps_bytes + case.codes_bytes
    # the decoder's left factor is scaled, and so float32 whatever the codes are
    scaled = (layers - 1) * case.batch * case.num_maps * case.code_size * (4 - case.dtype.itemsize)
    return (ranks - 1) * (layers * factors + scaled)


def shard_maps(case: Case, layers: int, ranks: int) -> float:
    """All-to-all: maps and codes of others, and both gradients; for each sample's loss a number, and its gradient."""
    losses = (layers - 1) * 2 * 4 * (ranks - 1) * case.batch
    return 2 * (ranks - 1) / ranks * (case.maps_bytes + case.codes_bytes) + losses


@dataclass(frozen=True)
class Way:
    """One way to train on many ranks.

    Attributes:
        name: Of its column.
        dtype: Of maps and codes; weights are float32.
        computed: Bytes that a rank sends in a step, from the case, the number of weights and of ranks.
        prepare: What is done to a module before DistributedDataParallel.
    """

    name: str
    dtype: torch.dtype
    computed: Callable[[Case, int, int], float]
    prepare: Callable[[nn.Module], nn.Module] | None

    def bytes_sent(self, case: Case, layers: int, ranks: int) -> float:
        """See `computed`; the case's own dtype does not matter."""
        return self.computed(Case(case.batch, case.side, case.code_size, self.dtype, case.num_maps), layers, ranks)


WAYS = (
    Way("gradients summed, fp32", torch.float32, sum_gradients, None),
    Way("factors gathered, fp32", torch.float32, gather_factors, distributed.gather_factors),
    Way("factors gathered, bf16", torch.bfloat16, gather_factors, distributed.gather_factors),
    Way("maps sharded, fp32", torch.float32, shard_maps, distributed.shard_maps),
    Way("maps sharded, bf16", torch.bfloat16, shard_maps, distributed.shard_maps),
)


class _Model(nn.Module):
    """What makes the maps, in the least form that wants their gradient, and the layers. No bias: its bytes are few."""

    def __init__(self, case: Case, layer: str, grad_mode: str) -> None:
        super().__init__()
        sizes = (case.num_maps, case.side, case.code_size)
        self.scale = nn.Parameter(torch.ones(()))
        if layer == "encoder":
            self.layer: nn.Module = SPFFlatten(*sizes, bias=False, grad_mode=grad_mode)
        else:
            self.layer = SPFAutoencoder(*sizes, bias=False, grad_mode=grad_mode)

    def forward(self, maps: Tensor) -> Tensor:
        result = self.layer(maps * self.scale)
        codes, loss = (result, 0.0) if isinstance(result, Tensor) else result
        total: Tensor = codes.float().square().mean() + loss
        return total


@dataclass(frozen=True)
class Measured:
    """What a rank sends in a step.

    Attributes:
        counted: By `spf_kernels.counters`, batch sizes apart; None for gradients, which are not its own.
        traffic: What went through the loopback device, divided by the ranks; None where the system does not tell.
    """

    counted: int | None
    traffic: float | None


def _loopback_bytes() -> int | None:
    """Bytes that this machine has sent to itself so far."""
    if not _LOOPBACK.exists():
        return None
    for line in _LOOPBACK.read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == "lo":
            return int(numbers.split()[8])
    return None


def _step(case: Case, layer: str, way: Way) -> Measured:
    """The second step of a new model; the first one also exchanges what is exchanged once."""
    grad_mode = "dense" if way.prepare is None else "factored"
    module: nn.Module = _Model(case, layer, grad_mode)
    if way.prepare is not None:
        module = way.prepare(module)
    model = DistributedDataParallel(module, gradient_as_bucket_view=True)
    maps = torch.ones(case.batch, case.num_maps, case.side, case.side)
    traffic: list[int | None] = []
    for _ in range(2):
        model.zero_grad()
        dist.barrier()
        spf_kernels.reset_counters()
        traffic.append(_loopback_bytes())
        with torch.autocast("cpu", torch.bfloat16, enabled=way.dtype == torch.bfloat16):
            loss = model(maps)
        loss.backward()
        for parameter in model.parameters():
            # waits for factors that are under way
            if isinstance(parameter.grad, spf_kernels.FactoredGrad):
                parameter.grad.contents.factors()
        dist.barrier()
    counts = [n for event, n in spf_kernels.counters().items() if event.removeprefix(_PREFIX) != "batch sizes"]
    before, after = traffic[1], _loopback_bytes()
    per_rank = None if before is None or after is None else (after - before) / dist.get_world_size()
    return Measured(None if way.prepare is None else sum(counts), per_rank)


def _run_rank(rank: int, ranks: int, case: Case, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", store, timedelta(minutes=5), world_size=ranks, rank=rank)
    measured = [[_step(case, layer, way) for way in WAYS] for layer in LAYERS]
    if rank == 0:
        rows = [[(step.counted, step.traffic) for step in row] for row in measured]
        torch.save(rows, Path(folder) / "measured.pt")
    dist.barrier()
    dist.destroy_process_group()


def measure(case: Case, ranks: int) -> dict[tuple[str, str], Measured]:
    """Starts the ranks, each of which trains every layer in every way.

    Returns:
        By layer and way, of rank 0.
    """
    with tempfile.TemporaryDirectory() as folder:
        spawn(_run_rank, (ranks, case, folder), ranks)
        rows = torch.load(Path(folder) / "measured.pt", weights_only=True)
    return {
        (layer, way.name): Measured(*step)
        for layer, row in zip(LAYERS, rows, strict=True)
        for way, step in zip(WAYS, row, strict=True)
    }


_NOTES = """MB are 1e6 bytes.

**Bold: counted** by `spf_kernels.counters` in real processes over Gloo on one machine, and equal to the computed number
to the byte. _Italic: seen_ by the loopback device during such a step (below), and equal within 1 %. Plain: computed.

* gradients summed: the ring all-reduce, 2 (R - 1) / R times the weights;
* factors gathered: (R - 1) times a rank's own. Here at any number of ranks; `gather_factors` sums dense gradients as
  soon as that is less, so that it never sends more than the first column;
* maps sharded: (R - 1) / R times maps, codes and both gradients; half of it where nothing before the maps is trained.

Biases are left out (at most 2 MB; they are summed, but for sharded maps, where each rank has its own), and batch sizes
(8 bytes to each rank).
"""
_TRAFFIC_NOTES = """All that the machine sent to itself during the step, divided by the ranks: Gloo's framing, TCP and
whatever else ran are in it. It measures the summed gradients, which no counter sees, and checks the counters.
"""


def _cell(computed: float, measured: Measured | None) -> str:
    """MB (1e6 bytes), in the type that says how they were found.

    Raises:
        ValueError: Counters that disagree with what is computed.
    """
    if measured is None or measured.counted is None:
        is_seen = measured is not None and abs((measured.traffic or 0) - computed) < 0.01 * computed
        return f"_{computed / 1e6:.1f}_" if is_seen else f"{computed / 1e6:.1f}"
    if measured.counted != round(computed):
        raise ValueError(f"counters must give the computed number of bytes {computed}, got {measured.counted}")
    return f"**{computed / 1e6:.1f}**"


def _traffic_rows(case: Case, measured: dict[int, dict[tuple[str, str], Measured]]) -> list[list[str]]:
    rows = []
    for ranks, steps in measured.items():
        for (layer, name), step in steps.items():
            way = next(way for way in WAYS if way.name == name)
            computed = way.bytes_sent(case, LAYERS[layer], ranks) / 1e6
            traffic = "–" if step.traffic is None else f"{step.traffic / 1e6:.1f}"
            rows.append([layer, name, str(ranks), f"{computed:.1f}", traffic])
    return rows


def page(case: Case, measured: dict[int, dict[tuple[str, str], Measured]]) -> str:
    """The results as Markdown.

    Args:
        case: The sizes.
        measured: By number of ranks, what `measure` returned.

    Raises:
        ValueError: Counters that do not agree with what is computed.
    """
    software = f"torch {torch.__version__}, {platform.system()} {platform.machine()}"
    sizes = f"{case.num_maps} maps of {case.side}x{case.side}, codes of {case.code_size}, {case.batch} samples a rank"
    parts = [
        "# Bytes that a rank sends in a training step\n",
        f"Written by `python -m bench.communication` ({software}). {sizes}; float32 weights. {_NOTES}",
    ]
    for layer, count in LAYERS.items():
        rows = []
        for ranks in RANKS:
            cells = []
            for way in WAYS:
                step = measured.get(ranks, {}).get((layer, way.name))
                cells.append(_cell(way.bytes_sent(case, count, ranks), step))
            rows.append([str(ranks), *cells])
        parts += [f"## {layer.capitalize()}\n", table(["ranks", *(f"{way.name}, MB" for way in WAYS)], rows)]
    parts += [
        "## What the loopback device saw\n",
        _TRAFFIC_NOTES,
        table(["layer", "way", "ranks", "computed, MB", "seen, MB"], _traffic_rows(case, measured)),
    ]
    return "\n".join(parts)


def main() -> int:
    measured = {ranks: measure(MAIN, ranks) for ranks in MEASURED_RANKS}
    write_atomically(RESULTS, page(MAIN, measured))
    print(f"written: {RESULTS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
