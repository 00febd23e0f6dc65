"""The processes of a run: how they start, and how they end when something goes wrong."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import distributed, nn

from spf_kernels.distributed import gather_factors, shard_maps
from spf_net.config import RunConfig, TrainingConfig


def start_fabric(training: TrainingConfig) -> Fabric:
    """Lightning Fabric on the devices that `training` names.

    Where there are several, this runs the script once more for each of them, unless torchrun has done so.
    """
    strategy: DDPStrategy | str = "auto"
    if training.strategy != "single":
        strategy = DDPStrategy(timeout=timedelta(seconds=training.timeout))
    fabric = Fabric(
        accelerator=training.accelerator,
        strategy=strategy,
        devices=training.devices,
        precision=training.precision,
    )
    fabric.launch()
    return fabric


def share_network(network: nn.Module, config: RunConfig) -> None:
    """Prepares a network, alike in all processes, for what they share; before its optimizer is made.

    DistributedDataParallel, in which `Fabric.setup` wraps the network, does the rest.

    Raises:
        ValueError: If there are fewer maps than processes to divide them among.
    """
    if config.training.strategy == "map_parallel":
        shard_maps(network)
    learns = not config.head.frozen or config.head.reconstruction_weight > 0
    is_factored = config.head.name == "spf" and config.optimizer.grad_mode == "factored"
    if config.training.strategy == "ddp" and is_factored and learns:
        gather_factors(network)


@contextmanager
def orderly_end(output: Path) -> Iterator[None]:
    """Ends the script with one line, not a traceback, when what it runs fails for a reason that is not a bug.

    Args:
        output: The folder of the run, which the line names where going on is possible.
    """
    try:
        yield
    except (ValueError, OSError, FloatingPointError) as error:
        _end(f"error: {error}")
    except RuntimeError as error:
        if not _is_connection_error(error):
            raise
        _end(
            f"error: lost another process of this run ({str(error).splitlines()[0]}); the same command with --resume "
            f"goes on after the last whole epoch in {output}"
        )
    except KeyboardInterrupt:
        _end(f"stopped: the same command with --resume goes on after the last whole epoch in {output}")
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _is_connection_error(error: RuntimeError) -> bool:
    # Gloo's errors have no class of their own, but each names its source file.
    return isinstance(error, distributed.DistError) or "gloo/transport" in str(error)


def _end(message: str) -> NoReturn:
    if not distributed.is_initialized():
        sys.exit(message)
    print(f"process {distributed.get_rank()} of {distributed.get_world_size()}: {message}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    # Nothing is cleaned up: that could wait for a process which is no more.
    os._exit(1)
