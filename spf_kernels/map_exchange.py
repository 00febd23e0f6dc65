"""The maps divided among ranks: which rank has which, and how maps and codes travel.

Every rank has samples of its own, and owns some of the C maps, with their weights, for the samples of all ranks. The
maps of its samples go to the maps' owners, the codes come back; in the backward their gradients go the other ways. On
the owners' side gradients are divided by the number of ranks: those of weights and biases are the mean over the ranks'
losses, as DistributedDataParallel makes it. Gradients that come back to the samples are what they are without sharding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

# torch.compiler.disable would import the compiler, and Triton, as soon as this module is
from torch._compile import _disable_dynamo
from torch.autograd import Function
from torch.nn.parallel import DistributedDataParallel

from spf_kernels import functional
from spf_kernels.communication import all_to_all, batch_sizes

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class MapShards:
    """Which rank has which maps.

    Args:
        num_maps: C.
        group: The ranks.

    Attributes:
        counts: The maps of each rank, in rank order; as equal as can be.
        start: The first map of this rank.
        stop: Behind its last.

    Raises:
        ValueError: Fewer maps than ranks.
    """

    def __init__(self, num_maps: int, group: ProcessGroup) -> None:
        ranks, rank = group.size(), group.rank()
        if num_maps < ranks:
            raise ValueError(f"num_maps must be at least the number of ranks ({ranks}), got {num_maps}")
        self.num_maps = num_maps
        self.group = group
        self.counts = [num_maps // ranks + (each < num_maps % ranks) for each in range(ranks)]
        self.start = sum(self.counts[:rank])
        self.stop = self.start + self.counts[rank]

    def __deepcopy__(self, memo: dict[int, Any]) -> MapShards:
        # a copied module has the same ranks
        return self

    # the sizes of the messages are known only when they are sent
    @_disable_dynamo
    def send_maps(self, maps: Tensor, weight: Tensor) -> tuple[Exchange, Tensor]:
        """Sends maps to their owners.

        Args:
            maps: (B, C, H, W) or (B, C, S).
            weight: (own maps, D, S).

        Returns:
            The exchange, for the codes' way back, and (samples of all ranks, own maps, S).

        Raises:
            ValueError: Maps of another shape.
            TypeError: A dtype that the kernels do not take.
            RuntimeError: A rank has ended or does not take part.
        """
        _check_ignored(weight)
        maps = functional.prepare_maps(maps, weight[:1].expand(self.num_maps, -1, -1))
        exchange = Exchange(self, batch_sizes(maps.shape[0], maps.device, self.group))
        return exchange, _ToOwners.apply(maps, exchange, self.counts, "maps")

    @_disable_dynamo
    def send_codes(self, codes: Tensor, weight: Tensor) -> tuple[Exchange, Tensor]:
        """Sends codes (B, C*D) or (B, C, D) to the decoders: (samples of all ranks, own maps, D). See `send_maps`."""
        _check_ignored(weight)
        expected = self.num_maps * weight.shape[1]
        if codes.dim() not in (2, 3) or codes[:1].numel() not in (0, expected):
            raise ValueError(f"codes must have shape (batch, {expected}), got {tuple(codes.shape)}")
        exchange = Exchange(self, batch_sizes(codes.shape[0], codes.device, self.group))
        split = codes.reshape(codes.shape[0], self.num_maps, weight.shape[1])
        return exchange, _ToOwners.apply(split, exchange, self.counts, "codes")


@dataclass(frozen=True)
class Exchange:
    """One forward's way back from the owners of maps to the samples.

    Attributes:
        shards: Who owns what.
        batches: How many samples each rank has.
    """

    shards: MapShards
    batches: list[int]

    @_disable_dynamo
    def return_maps(self, what: str, maps: Tensor) -> Tensor:
        """(samples of all ranks, own maps, N) numbers of every map to (B, C, N)."""
        result: Tensor = _ToSamples.apply(maps, self, self.shards.counts, what)
        return result

    @_disable_dynamo
    def return_losses(self, losses: Tensor) -> Tensor:
        """Each sample's mean over its maps.

        Args:
            losses: (samples of all ranks,), the means over the own maps.

        Returns:
            (B,).
        """
        share = (self.shards.stop - self.shards.start) / self.shards.num_maps
        parts = (losses * share).view(-1, 1, 1)
        every: Tensor = _ToSamples.apply(parts, self, [1] * len(self.batches), "losses")
        return every.flatten(1).sum(1)


class _ToOwners(Function):
    """(B, sum of counts, N) to (samples of all ranks, this rank's count, N)."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, exchange: Exchange, counts: list[int], what: str) -> Tensor:
        ctx.route = (exchange, counts, what)
        batch, _, size = tensor.shape
        own = counts[exchange.shards.group.rank()]
        send = [batch * count * size for count in counts]
        sent = tensor.new_empty(sum(send))
        for space, part in zip(sent.split(send), tensor.split(counts, 1), strict=True):
            space.view(part.shape).copy_(part)
        receive = [each * own * size for each in exchange.batches]
        received = tensor.new_empty(sum(receive))
        all_to_all(what, received, sent, receive, send, exchange.shards.group)
        return received.view(sum(exchange.batches), own, size)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        exchange, counts, what = ctx.route
        gradient = _ToSamples.apply(gradients[0], exchange, counts, f"gradient of {what}")
        return gradient.mul_(len(exchange.batches)), None, None, None


class _ToSamples(Function):
    """The way back."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, exchange: Exchange, counts: list[int], what: str) -> Tensor:
        ctx.route = (exchange, counts, what)
        _, own, size = tensor.shape
        batch = exchange.batches[exchange.shards.group.rank()]
        receive = [batch * count * size for count in counts]
        received = tensor.new_empty(sum(receive))
        send = [each * own * size for each in exchange.batches]
        all_to_all(what, received, tensor.contiguous().view(-1), receive, send, exchange.shards.group)
        parts = zip(received.split(receive), counts, strict=True)
        return torch.cat([part.view(batch, count, size) for part, count in parts], 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        exchange, counts, what = ctx.route
        gradient = _ToOwners.apply(gradients[0], exchange, counts, f"gradient of {what}")
        return gradient / len(exchange.batches), None, None, None


def _check_ignored(weight: Tensor) -> None:
    """RuntimeError under a DistributedDataParallel that would make all ranks' shares one."""
    wrapper = DistributedDataParallel._get_active_ddp_module()
    if wrapper is not None and any(parameter is weight for parameter in wrapper._module_parameters):
        raise RuntimeError(
            "DistributedDataParallel has taken a sharded weight for a replicated one, and overwritten it with rank "
            "0's: build the model anew and call shard_maps with the very module that DistributedDataParallel gets"
        )
