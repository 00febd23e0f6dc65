"""Factored gradients among replicas: every rank gets the factors of all."""

from collections.abc import MutableMapping
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from spf_kernels import communication
from spf_kernels.distributed.ignoring import Model, ignore
from spf_kernels.distributed.sharding import Layer
from spf_kernels.factors import FactoredGrad

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

_DENSE = -1
_gathered: MutableMapping[Tensor, bool] = WeakTensorKeyDictionary()


def gather_factors(model: Model, process_group: "ProcessGroup | None" = None) -> Model:
    """Replicates the factored weights of a model: their gradients are the mean over the ranks, as factors.

        model = Network().to(device)  # with grad_mode="factored" somewhere in it
        spf_kernels.distributed.gather_factors(model)
        model = torch.nn.parallel.DistributedDataParallel(model)
        optimizer = spf_kernels.optim.NAdam(model.parameters())

    DistributedDataParallel leaves these weights alone, and does all others. They start as rank 0's. In every backward
    the ranks exchange the factors, and each has those of all samples in rank order, so that all take the same step;
    the gradient is what DistributedDataParallel makes of dense ones. The exchange goes on while the backward does, and
    is waited for where the gradient is first used. Where the dense gradients are fewer bytes (many ranks, large
    batches, or a rank whose gradient has a dense part) those are summed over the ranks instead, at once; factors that
    are made dense for it are counted (`spf_kernels.counters`).

    Without this function DistributedDataParallel refuses factored gradients (RuntimeError in the first backward); with
    `gradient_as_bucket_view=True` it makes them dense, which is counted.

    `no_sync` does not concern these weights: the factors of each micro-batch are exchanged in its own backward, which
    is as many bytes in the end. In each backward, all ranks must use the same of these weights.

    Args:
        model: What DistributedDataParallel will get. Its parameters must not be replaced afterwards. Modules whose maps
            are sharded are left out.
        process_group: The ranks, by default all.

    Returns:
        The model.

    Raises:
        ValueError: No weight with a factored gradient that is not sharded; weights that differ among the ranks in name,
            shape or dtype; a second call for the same weight.
        RuntimeError: No process group; a rank that does not take part.
    """
    group = communication.resolve(process_group)
    weights = _factored_weights(model)
    if not weights:
        raise ValueError("model must have modules with grad_mode='factored' and trainable weights, got none")
    for name, weight in weights.items():
        if weight in _gathered:
            raise ValueError(f"model must not be given to gather_factors twice, got {name} again")
    shapes = {name: (tuple(weight.shape), str(weight.dtype)) for name, weight in weights.items()}
    communication.check_alike("factored weights", shapes, group)
    ignore(model, list(weights))
    for weight in weights.values():
        with communication.explained("weights", group):
            dist.broadcast(weight.detach(), group=group, group_src=0)
        weight.register_hook(partial(_mean_of_ranks, group))
        _gathered[weight] = True
    return model


def _factored_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """By full name."""
    factored = {
        id(module.weight)
        for module in model.modules()
        if isinstance(module, Layer) and module.grad_mode == "factored" and module.shards is None
    }
    return {name: each for name, each in model.named_parameters() if id(each) in factored and each.requires_grad}


def _mean_of_ranks(group: "ProcessGroup", gradient: Tensor) -> Tensor:
    """The hook of a weight: its gradient of one backward on this rank becomes the mean over the ranks."""
    if gradient.requires_grad:
        raise RuntimeError("gather_factors does not support create_graph=True")
    batch = _DENSE
    if isinstance(gradient, FactoredGrad) and gradient.rest is None:
        batch = gradient.contents.batch
    batches = communication.batch_sizes(batch, gradient.device, group)
    if isinstance(gradient, FactoredGrad):
        if _DENSE not in batches and _factors_are_smaller(gradient, sum(batches)):
            return _gather(gradient, batches, group)
        gradient = gradient.contents.fold("summed over the ranks")
    return communication.mean_of_ranks("gradients", gradient, group)


def _factors_are_smaller(gradient: FactoredGrad, batch: int) -> bool:
    """Whether the ranks send fewer bytes to gather factors of `batch` samples than to sum dense gradients."""
    _, D, S = gradient.shape
    left, right = gradient.left, gradient.right
    return batch * (D * left.element_size() + S * right.element_size()) < 2 * D * S * gradient.element_size()


def _gather(own: FactoredGrad, batches: list[int], group: "ProcessGroup") -> FactoredGrad:
    """Starts to gather the factors of all ranks."""
    total, most = sum(batches), max(batches)
    started = [communication.start_gather("factors", _pad(each, most), group) for each in (own.left, own.right)]

    def arriving() -> tuple[Tensor, Tensor]:
        for _, work in started:
            with communication.explained("factors", group):
                work.wait()
        # raises if the maps were changed while they were being sent
        own.contents.factors()
        left, right = (_unpad(every, batches) for every, _ in started)
        # at least float32, as for every other scaled gradient
        return left.to(torch.promote_types(left.dtype, torch.float32)) / len(batches), right

    left, right = (every[:total] for every, _ in started)
    gathered = FactoredGrad(left, right, own.dtype)
    gathered.contents.set_factors(left, right, arriving)
    return gathered


def _pad(factor: Tensor, batch: int) -> Tensor:
    """Contiguous, with zeros for the missing samples."""
    missing = batch - factor.shape[0]
    return torch.cat([factor, factor.new_zeros(missing, *factor.shape[1:])]) if missing else factor.contiguous()


def _unpad(every: Tensor, batches: list[int]) -> Tensor:
    """Without what `_pad` put behind each rank's samples."""
    if min(batches) == max(batches):
        return every
    parts = zip(every.chunk(len(batches)), batches, strict=True)
    return torch.cat([part[:batch] for part, batch in parts])
