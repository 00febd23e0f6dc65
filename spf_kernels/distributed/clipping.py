"""The gradients' norm over all ranks."""

import math
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from spf_kernels import communication
from spf_kernels.distributed.sharding import sharded_layers

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


@torch.no_grad()
def clip_grad_norm_(
    model: nn.Module, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False
) -> Tensor:
    """`torch.nn.utils.clip_grad_norm_` where maps are sharded: by the norm over all maps, the same on every rank.

    Args:
        model: All its gradients are clipped together; the rest of it may be under DistributedDataParallel or FSDP.
        max_norm: The norm is at most this afterwards.
        norm_type: Positive, or infinity for the largest element.
        error_if_nonfinite: Whether NaN or infinity is an error.

    Returns:
        The norm before, ().

    Raises:
        ValueError: A norm_type that is not positive.
        RuntimeError: A norm that is not finite, if asked; a rank that does not take part.
    """
    if not norm_type > 0:
        raise ValueError(f"norm_type must be positive, got {norm_type}")
    groups = _groups(model)
    norms = [_total_norm(parameters, norm_type, group) for group, parameters in groups]
    total: Tensor = torch.linalg.vector_norm(torch.stack(norms), norm_type)
    if error_if_nonfinite and not bool(total.isfinite()):
        raise RuntimeError(f"the gradients' norm of order {norm_type} is {float(total)}")
    for _, parameters in groups:
        clip_grads_with_norm_(parameters, max_norm, total)
    return total


_Group = tuple["ProcessGroup | None", list[nn.Parameter]]


def _groups(model: nn.Module) -> list[_Group]:
    """Parameters of a kind: sharded ones with their ranks, plain ones and distributed tensors with None."""
    owners = {
        id(parameter): shards.group
        for _, layer, shards in sharded_layers(model)
        for parameter in layer.parameters(recurse=False)
    }
    groups: dict[tuple[bool, int], _Group] = {}
    for parameter in model.parameters():
        group = owners.get(id(parameter))
        # every rank takes part, also one without a gradient
        key = (hasattr(parameter, "full_tensor"), id(group))
        _, members = groups.setdefault(key, (group, []))
        members.append(parameter)
    return list(groups.values())


def _total_norm(parameters: list[nn.Parameter], norm_type: float, group: "ProcessGroup | None") -> Tensor:
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = get_total_norm(gradients, norm_type)
    if hasattr(norm, "full_tensor"):
        norm = norm.full_tensor()
    norm = norm.to(parameters[0].device)
    if group is None:
        return norm
    is_largest = math.isinf(norm_type)
    power = norm if is_largest else norm.double().pow(norm_type)
    with communication.explained("norms", group):
        dist.all_reduce(power, dist.ReduceOp.MAX if is_largest else dist.ReduceOp.SUM, group=group)
    return power if is_largest else power.pow(1 / norm_type).to(norm.dtype)
