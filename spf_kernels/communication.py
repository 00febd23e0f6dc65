"""What ranks send each other: collectives of `torch.distributed` whose bytes are counted and whose errors explain.

The counted bytes are those that one rank sends: (R - 1) times its share in an all-gather, 2 (R - 1) / R times the
tensor in an all-reduce (ring algorithms), and in an all-to-all what goes to others. Broadcasts, checkpoints and norms
are not counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.distributed as dist
from torch import Tensor

from spf_kernels.counters import count

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

# the older name is deprecated from torch 2.13 on
_all_gather: Any = getattr(dist, "all_gather_single", getattr(dist, "all_gather_into_tensor", None))


def resolve(process_group: ProcessGroup | None) -> ProcessGroup:
    """The group, by default the one of all ranks.

    Raises:
        RuntimeError: There is none.
    """
    if process_group is not None:
        return process_group
    if not dist.is_available() or not dist.is_initialized():
        raise RuntimeError("process_group must be given, or torch.distributed.init_process_group be called before")
    everyone: Any = dist.group.WORLD
    return cast("ProcessGroup", everyone)


@contextmanager
def explained(what: str, group: ProcessGroup) -> Iterator[None]:
    """Says in the error of a failed collective what it was for."""
    try:
        yield
    except RuntimeError as error:
        raise RuntimeError(
            f"rank {group.rank()} of {group.size()}: the exchange of {what} failed: another rank has ended, does not "
            f"take part or did not answer within the process group's time-out ({error})"
        ) from error


def count_bytes(what: str, number: int) -> None:
    """Counts bytes that this rank sends."""
    if number:
        count(f"bytes sent: {what}", number)


def batch_sizes(batch: int, device: torch.device, group: ProcessGroup) -> list[int]:
    """A number of every rank, in rank order.

    Where the group also has a backend for the CPU the numbers go that way, and a GPU does not have to be waited for.

    Args:
        batch: This rank's.
        device: Of the samples.
        group: The ranks.
    """
    where = "cpu" if "cpu" in dist.get_backend_config(group) else device
    mine = torch.tensor([batch], device=where)
    every = mine.new_empty(group.size())
    count_bytes("batch sizes", (group.size() - 1) * mine.nbytes)
    with explained("batch sizes", group):
        _all_gather(every, mine, group)
    return [int(number) for number in every.tolist()]


def start_gather(what: str, tensor: Tensor, group: ProcessGroup) -> tuple[Tensor, Any]:
    """Starts to gather tensors of one shape.

    Args:
        what: For the counter.
        tensor: (N, ...), contiguous; must stay as it is until the work is done.
        group: The ranks.

    Returns:
        (R * N, ...), the ranks' tensors in rank order, complete only after `wait` of the work that comes with it.
    """
    every = tensor.new_empty(group.size() * tensor.shape[0], *tensor.shape[1:])
    count_bytes(what, (group.size() - 1) * tensor.nbytes)
    with explained(what, group):
        work = _all_gather(every, tensor, group, async_op=True)
    return every, work


def mean_of_ranks(what: str, tensor: Tensor, group: ProcessGroup) -> Tensor:
    """A new tensor, the mean of all ranks'; divided before it is summed, as DistributedDataParallel does."""
    mean = tensor / group.size()
    count_bytes(what, 2 * (group.size() - 1) * mean.nbytes // group.size())
    with explained(what, group):
        dist.all_reduce(mean, group=group)
    return mean


def all_to_all(
    what: str, received: Tensor, sent: Tensor, receive: list[int], send: list[int], group: ProcessGroup
) -> None:
    """Sends each rank its part of a vector.

    Args:
        what: For the counter.
        received: (sum of receive,), overwritten.
        sent: (sum of send,).
        receive: How many elements come from each rank.
        send: How many go to each.
        group: The ranks.
    """
    count_bytes(what, (sent.numel() - send[group.rank()]) * sent.element_size())
    with explained(what, group):
        dist.all_to_all_single(received, sent, receive, send, group)


def check_alike(name: str, value: object, group: ProcessGroup) -> None:
    """Raises ValueError on every rank if `value` is not the same on all of them."""
    values: list[object] = [None] * group.size()
    with explained(name, group):
        dist.all_gather_object(values, value, group)
    for rank, other in enumerate(values):
        if other != values[0]:
            raise ValueError(f"{name} must be the same on all ranks, got {values[0]} on rank 0 and {other} on {rank}")
