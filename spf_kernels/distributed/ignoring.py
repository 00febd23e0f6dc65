"""Which parameters DistributedDataParallel and fully_shard must leave alone."""

from typing import TypeVar

from torch import nn
from torch.nn.parallel import DistributedDataParallel

Model = TypeVar("Model", bound=nn.Module)
_LIST = "_ddp_params_and_buffers_to_ignore"


def ignore(model: nn.Module, names: list[str]) -> None:
    """Adds parameters to the list of those that DistributedDataParallel(model) leaves alone.

    Args:
        model: What it will wrap.
        names: As `model.named_parameters` has them.

    Raises:
        ValueError: The model is wrapped already.
    """
    if isinstance(model, DistributedDataParallel):
        raise ValueError("model must be what DistributedDataParallel will get, got a DistributedDataParallel")
    every = {*getattr(model, _LIST, ()), *names}
    # DistributedDataParallel calls a parameter of the model itself "weight" in one place and ".weight" in another
    every |= {f".{name}" for name in names if "." not in name}
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, sorted(every))


def ignored_parameters(model: nn.Module) -> set[nn.Parameter]:
    """The parameters that `gather_factors` and `shard_maps` keep in step themselves.

    For `torch.distributed.fsdp.fully_shard(model, ignored_params=ignored_parameters(model))`: without it FSDP would
    take the ranks' different maps for copies of one weight. DistributedDataParallel finds its list by itself.

    Args:
        model: What was given to `gather_factors` or `shard_maps`.
    """
    names = set(getattr(model, _LIST, ()))
    return {parameter for name, parameter in model.named_parameters() if name in names}
