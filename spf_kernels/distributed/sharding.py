"""`shard_maps`: the maps, their weights and the optimizer's state divided among the ranks."""

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from spf_kernels import communication
from spf_kernels.backends.native import advise_huge_pages
from spf_kernels.distributed.ignoring import Model, ignore
from spf_kernels.map_exchange import MapShards
from spf_kernels.modules import SPFDecoder, SPFFlatten

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


Layer = SPFFlatten | SPFDecoder


def shard_maps(model: Model, process_group: "ProcessGroup | None" = None) -> Model:
    """Divides the maps of every SPFFlatten and SPFAutoencoder in a model among the ranks.

        model = Network().to(device)
        spf_kernels.distributed.shard_maps(model)
        model = torch.nn.parallel.DistributedDataParallel(model)
        optimizer = spf_kernels.optim.NAdam(model.parameters())
        spf_kernels.distributed.clip_grad_norm_(model, 1.0)  # in place of torch's

    Of C maps each of R ranks keeps C/R (the first ranks one more, where that is no integer) with their weights and
    biases, and so a share of gradients and optimizer state. Maps go to their owners, codes come back, by all-to-all.
    What a module returns on a rank is what it would return without sharding: the codes, and the reconstruction loss
    with its reduction, of this rank's samples. Gradients are those of the mean over the ranks of their losses, as
    DistributedDataParallel and FSDP have it: where all ranks have equally many samples and losses are means, those of
    the whole batch on one rank.

    With FSDP on the rest: `fully_shard(model, ignored_params=ignored_parameters(model))`. For checkpoints see
    `gather_state_dict`; `model.load_state_dict` takes whole parameters and keeps this rank's share, so load before
    DistributedDataParallel or after, and before `fully_shard`. In float16 with loss scaling, use
    `torch.distributed.fsdp.sharded_grad_scaler.ShardedGradScaler`: all ranks must skip the same steps.

    Under torch.compile the graph breaks at a sharded module.

    Args:
        model: What DistributedDataParallel will get, changed in place. Each rank takes its share of the parameters as
            they are on this rank; optimizers must be made afterwards.
        process_group: The ranks, by default all.

    Returns:
        The model.

    Raises:
        ValueError: No such module; fewer maps than ranks; modules that differ among the ranks; a module that is sharded
            already.
        RuntimeError: No process group; a rank that does not take part.
    """
    group = communication.resolve(process_group)
    layers = {name: module for name, module in model.named_modules() if isinstance(module, Layer)}
    if not layers:
        raise ValueError("model must hold an SPFFlatten or SPFAutoencoder, got none")
    for name, layer in layers.items():
        if layer.shards is not None:
            raise ValueError(f"model must not be sharded twice, got {name or 'a layer'} with shards")
    communication.check_alike("layers", {name: repr(layer) for name, layer in layers.items()}, group)
    shards = [MapShards(layer.num_maps, group) for layer in layers.values()]
    for layer, of_layer in zip(layers.values(), shards, strict=True):
        _shard(layer, of_layer)
    owned = {id(parameter) for layer in layers.values() for parameter in layer.parameters(recurse=False)}
    ignore(model, [name for name, parameter in model.named_parameters() if id(parameter) in owned])
    return model


def sharded_layers(model: nn.Module) -> list[tuple[str, Layer, MapShards]]:
    """Every sharded layer by each of its names, and which maps of it are where."""
    return [
        (name, module, module.shards)
        for name, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, Layer) and module.shards is not None
    ]


def _shard(layer: Layer, shards: MapShards) -> None:
    layer.shards = shards
    for name, parameter in list(layer.named_parameters(recurse=False)):
        share = parameter.detach()[shards.start : shards.stop].clone()
        advise_huge_pages(share)
        setattr(layer, name, nn.Parameter(share, parameter.requires_grad))
    layer.register_load_state_dict_pre_hook(_take_share)


def _take_share(layer: Any, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Before loading: of whole parameters, this rank's maps."""
    shards: MapShards = layer.shards
    for name in ("weight", "bias"):
        value = state_dict.get(prefix + name)
        if isinstance(value, Tensor) and value.dim() and value.shape[0] == shards.num_maps:
            state_dict[prefix + name] = value[shards.start : shards.stop]
