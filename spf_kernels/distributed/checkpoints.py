"""Whole checkpoints of sharded models: saved by any number of ranks, loaded by any other."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from spf_kernels import communication
from spf_kernels.distributed.sharding import sharded_layers
from spf_kernels.map_exchange import MapShards

_Shards = MapShards | None


def gather_state_dict(model: nn.Module) -> dict[str, Any]:
    """The `state_dict` that the model would have without sharding.

        state = gather_state_dict(model)  # on every rank
        if rank == 0:
            torch.save(state, path)
        network.load_state_dict(torch.load(path))  # shard_maps(network) before or not, on as many ranks as you like

    Args:
        model: With sharded modules, FSDP, or neither; of a DistributedDataParallel what is in it (`.module`).

    Returns:
        On rank 0 (of the process group that the maps are sharded over) everything, on the CPU; elsewhere nothing. A GPU
        needs no room for whole parameters, FSDP's excepted: shares are sent one at a time.

    Raises:
        RuntimeError: A rank that does not take part.
    """
    shards = _shards_by_name(model)
    whole = {name: _whole(value, shards.get(name)) for name, value in model.state_dict().items()}
    return whole if _is_first(list(shards.values())) else {}


def gather_optimizer_state_dict(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The `state_dict` that the optimizer would have without sharding, as `gather_state_dict` the model's.

    Args:
        model: Whose parameters the optimizer has.
        optimizer: Any that keeps tensors of a parameter's shape for it, and numbers.

    Raises:
        ValueError: It keeps something of another shape for a sharded parameter.
        RuntimeError: A rank that does not take part.
    """
    shards = _shards_by_index(model, optimizer)
    state = _each_value(optimizer.state_dict(), lambda index, value: _whole_state(value, *shards[index]))
    return state if _is_first([shard for _, shard in shards]) else {}


def load_optimizer_state_dict(model: nn.Module, optimizer: torch.optim.Optimizer, state_dict: dict[str, Any]) -> None:
    """Loads what `gather_optimizer_state_dict`, or an optimizer of the unsharded model, has saved.

    Args:
        model: Whose parameters the optimizer has; sharded or not.
        optimizer: Takes this rank's share.
        state_dict: The whole state, on every rank.
    """
    shards = _shards_by_index(model, optimizer)
    optimizer.load_state_dict(_each_value(state_dict, lambda index, value: _share(value, *shards[index])))


def _shards_by_name(model: nn.Module) -> dict[str, MapShards]:
    return {
        name: shards
        for prefix, layer, shards in sharded_layers(model)
        for name, _ in layer.named_parameters(prefix, recurse=False)
    }


def _shards_by_index(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[tuple[Tensor, _Shards]]:
    """Of the optimizer's parameters, by their index in its state."""
    named = dict(model.named_parameters(remove_duplicate=False))
    owners = {id(named[name]): shards for name, shards in _shards_by_name(model).items()}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return [(parameter, owners.get(id(parameter))) for parameter in parameters]


def _each_value(state_dict: dict[str, Any], change: Callable[[int, Any], Any]) -> dict[str, Any]:
    """An optimizer's state, every value changed."""
    state = {
        index: {name: change(index, value) for name, value in values.items()}
        for index, values in state_dict["state"].items()
    }
    return {**state_dict, "state": state}


def _is_first(shards: list[Any]) -> bool:
    groups = [each.group for each in shards if each is not None]
    if groups:
        return all(group.rank() == 0 for group in groups)
    return not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0


def _whole_state(value: Any, parameter: Tensor, shards: _Shards) -> Any:
    """What an optimizer keeps for a parameter."""
    if shards is None or not isinstance(value, Tensor) or value.dim() == 0:
        return _whole(value, None)
    if value.shape != parameter.shape:
        raise ValueError(
            f"optimizer must keep tensors of the shape {tuple(parameter.shape)} for a sharded parameter of that shape, "
            f"got one of {tuple(value.shape)}"
        )
    return _whole(value, shards)


def _whole(value: Any, shards: _Shards) -> Any:
    """A value on rank 0; of a share elsewhere what is here."""
    if hasattr(value, "full_tensor"):
        value = value.full_tensor()
    if not isinstance(value, Tensor):
        return value
    value = value.detach()
    if shards is None:
        return value.cpu()
    group = shards.group
    with communication.explained("checkpoints", group):
        if group.rank() > 0:
            dist.send(value.contiguous(), group=group, group_dst=0)
            return value
        parts = [value.cpu()]
        for rank, count in enumerate(shards.counts[1:], start=1):
            part = value.new_empty(count, *value.shape[1:])
            dist.recv(part, group=group, group_src=rank)
            parts.append(part.cpu())
    return torch.cat(parts)


def _share(value: Any, parameter: Any, shards: _Shards) -> Any:
    """This rank's part of a whole value that belongs to a parameter."""
    if not isinstance(value, Tensor) or value.dim() != parameter.dim() or value.dim() == 0:
        return value
    if shards is not None and value.shape[0] == shards.num_maps:
        return value[shards.start : shards.stop].clone()
    if hasattr(parameter, "device_mesh") and value.shape == parameter.shape:
        # not imported without need: it takes a while
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(
            value.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None
        )
    return value
