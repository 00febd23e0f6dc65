"""Ranks that die, or say no more, in the middle of a step."""

import os
import signal
import time

import torch
from torch.nn.parallel import DistributedDataParallel

from spf_kernels.distributed import gather_factors, shard_maps

from .distributed_helpers import Network, images_of, make_optimizer, mean_loss

TIMEOUT_S = 5


def killed_gathering(place):
    return step_of_last(gather_factors(Network("factored")), kill, place)


def killed_sharded(place):
    return step_of_last(shard_maps(Network("factored")), kill, place)


def silent_sharded(place):
    return step_of_last(shard_maps(Network("factored")), lambda _: time.sleep(TIMEOUT_S + 1), place)


SCENARIOS = {scenario.__name__: scenario for scenario in (killed_gathering, killed_sharded, silent_sharded)}


def kill(_gradient):
    os.kill(os.getpid(), signal.SIGKILL)


def step_of_last(network, fault, place):
    """Trains until the last rank fails in a backward; returns what the others see, and after how many seconds."""
    model = DistributedDataParallel(network)
    optimizer = make_optimizer(model)
    mean_loss(model, images_of(0, place.rank, place.world)).backward()
    optimizer.step()
    if place.rank == place.world - 1:
        # the decoder's gradient is there, the encoder's is not
        network.autoencoder.decoder.bias.register_hook(fault)
    started = time.monotonic()
    try:
        mean_loss(model, images_of(1, place.rank, place.world)).backward()
        # what the backward has only started is waited for here
        optimizer.step()
    except RuntimeError as error:
        return {"message": str(error), "seconds": time.monotonic() - started}
    return {"message": "no error", "seconds": torch.inf}
