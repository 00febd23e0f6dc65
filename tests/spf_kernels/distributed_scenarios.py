"""What every rank does, and returns for the test to compare."""

import contextlib
import copy

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler
from torch.nn.parallel import DistributedDataParallel

import spf_kernels
from spf_kernels import SPFFlatten
from spf_kernels.distributed import (
    clip_grad_norm_,
    gather_factors,
    gather_optimizer_state_dict,
    gather_state_dict,
    ignored_parameters,
    load_optimizer_state_dict,
    shard_maps,
)

from .distributed_helpers import (
    BATCH,
    SIDE,
    STEPS,
    C,
    D,
    Network,
    gradients_of,
    images_of,
    make_optimizer,
    mean_loss,
    train,
)

# numbers of samples that are not the same on all ranks
UNEQUAL = {2: (3, 0), 4: (2, 0, 3, 1)}


def everything(place):
    """All scenarios in one start of the ranks."""
    scenarios = [
        training,
        unequal_batches,
        accumulation,
        layer_alone,
        summed,
        refusals,
        sharded_outputs,
        wrapped_by_fsdp,
    ]
    scenarios += [infinity_on_one_rank, compiled] if place.world == 2 else [resumed, pairs]
    return {scenario.__name__: scenario(place) for scenario in scenarios}


def prepared(way, seed=0):
    """A network that is trained in one of the ways."""
    if way in ("dense", "gathered"):
        network = Network("dense" if way == "dense" else "factored", seed)
        return network if way == "dense" else gather_factors(network)
    return shard_maps(Network("dense" if way == "sharded, dense" else "factored", seed))


def training(place):
    """Steps of the same training, by way of training; a checkpoint in the middle of the sharded one."""
    results = {}
    for way in ("dense", "gathered", "sharded", "sharded, dense"):
        # replicas start as rank 0's
        network = prepared(way, place.rank if way in ("dense", "gathered") else 0)
        model = DistributedDataParallel(network)
        optimizer = make_optimizer(model)
        spf_kernels.reset_counters()
        norms = train(model, network, optimizer, place.rank, place.world, range(STEPS // 2))
        if way == "sharded":
            save(network, optimizer, place)
        norms += train(model, network, optimizer, place.rank, place.world, range(STEPS // 2, STEPS))
        results[way] = {
            "norms": norms,
            "here": {name: parameter.detach().clone() for name, parameter in network.named_parameters()},
            "network": gather_state_dict(network),
            "optimizer": gather_optimizer_state_dict(network, optimizer),
            "counters": spf_kernels.counters(),
        }
    return results


def save(network, optimizer, place):
    state = {"network": gather_state_dict(network), "optimizer": gather_optimizer_state_dict(network, optimizer)}
    if place.rank == 0:
        torch.save(state, place.folder / f"checkpoint-{place.world}.pt")


def load(network, optimizer, path):
    state = torch.load(path, weights_only=True)
    network.load_state_dict(state["network"])
    load_optimizer_state_dict(network, optimizer, state["optimizer"])


def resumed(place):
    """Goes on from the checkpoint that two ranks saved."""
    network = shard_maps(Network("factored", seed=1))
    optimizer = make_optimizer(network)
    load(network, optimizer, place.folder / "checkpoint-2.pt")
    train(DistributedDataParallel(network), network, optimizer, place.rank, place.world, range(STEPS // 2, STEPS))
    return {"network": gather_state_dict(network), "optimizer": gather_optimizer_state_dict(network, optimizer)}


def unequal_batches(place):
    """Gradients where ranks have different numbers of samples, one of them none."""
    images = images_of(7, batch=sum(UNEQUAL[place.world])).split(UNEQUAL[place.world])[place.rank]
    results = {}
    for way in ("dense", "gathered", "sharded"):
        network = prepared(way)
        model = DistributedDataParallel(network)
        logits, loss = model(images)
        # a mean over no samples is no number
        (logits.square().sum() + loss.nan_to_num()).backward()
        results[way] = gradients_of(network)
    return results


def accumulation(place):
    """Gradients of micro-batches, the first without synchronisation."""
    results = {}
    for way in ("dense", "gathered", "sharded"):
        network = prepared(way)
        model = DistributedDataParallel(network)
        for step in range(2):
            with model.no_sync() if step == 0 else contextlib.nullcontext():
                mean_loss(model, images_of(step, place.rank, place.world)).backward()
        results[way] = gradients_of(network)
    return results


def layer_alone(place):
    """A layer that is the whole model, under autocast; with no bias there is nothing left for the wrapper."""
    results = {}
    for bias in (True, False):
        for way in ("dense", "gathered"):
            torch.manual_seed(place.rank)
            layer = SPFFlatten(C, SIDE, D, bias=bias, grad_mode="dense" if way == "dense" else "factored")
            if way == "gathered":
                gather_factors(layer)
            model = DistributedDataParallel(layer) if bias or way == "dense" else layer
            spf_kernels.reset_counters()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = model(images_of(0, place.rank, place.world).expand(-1, C, -1, -1)).float().square().mean()
            loss.backward()
            under_way = way == "gathered" and layer.weight.grad.contents._arriving is not None
            results[f"{way}, bias {bias}"] = {
                "gradients": gradients_of(layer),
                "under way": under_way,
                "counters": spf_kernels.counters(),
            }
    return results


def summed(place):
    """Gradients that are summed instead: of many samples, and with a dense part on the last rank."""
    results = {}
    for case in ("many", "dense part"):
        for way in ("dense", "gathered"):
            network = prepared(way)
            spf_kernels.reset_counters()
            model = DistributedDataParallel(network)
            loss = mean_loss(model, images_of(0, place.rank, place.world, 4 * BATCH if case == "many" else BATCH))
            if case == "dense part" and place.rank == place.world - 1:
                loss = loss + network.autoencoder.encoder.weight.square().sum()
            loss.backward()
            results[f"{way}, {case}"] = {"gradients": gradients_of(network), "counters": spf_kernels.counters()}
    return results


def message_of(call):
    """Of the error that the call must end with."""
    try:
        call()
    except (RuntimeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def refusals(place):
    """What must fail, and on every rank."""
    images = images_of(0, place.rank, place.world)
    plain, gathered = DistributedDataParallel(Network("factored")), gather_factors(Network("factored"))
    # equal shares: unequal ones DistributedDataParallel itself refuses
    part = torch.nn.Sequential(torch.nn.Conv2d(1, place.world, 1), shard_maps(SPFFlatten(place.world, SIDE, D)))
    wrapped = DistributedDataParallel(part)
    viewed = DistributedDataParallel(Network("factored"), gradient_as_bucket_view=True)
    mean_loss(viewed, images).backward()
    return {
        "messages": {
            "not gathered": message_of(lambda: mean_loss(plain, images).backward()),
            "nothing factored": message_of(lambda: gather_factors(Network())),
            "gathered twice": message_of(lambda: gather_factors(gathered)),
            "wrapped already": message_of(lambda: shard_maps(DistributedDataParallel(Network()))),
            "not alike": message_of(lambda: gather_factors(SPFFlatten(2 + place.rank, SIDE, D, grad_mode="factored"))),
            "differentiable": message_of(lambda: mean_loss(gathered, images).backward(create_graph=True)),
            "no layers": message_of(lambda: shard_maps(torch.nn.Linear(2, 2))),
            "few maps": message_of(lambda: shard_maps(SPFFlatten(place.world - 1, SIDE, D))),
            "sharded twice": message_of(lambda: shard_maps(shard_maps(Network()))),
            "not alike, sharded": message_of(lambda: shard_maps(SPFFlatten(8, SIDE, 2 + place.rank))),
            "a part": message_of(lambda: wrapped(images)),
            "linears": message_of(lambda: shard_maps(Network()).autoencoder.to_linears()),
            "changed maps": message_of(changed_maps),
            "other state": message_of(lambda: other_state(images)),
        },
        "bucket view": gradients_of(viewed.module),
    }


def other_state(images):
    """An optimizer that keeps rows and columns."""
    network = shard_maps(Network())
    optimizer = torch.optim.Adafactor(network.parameters())
    mean_loss(network, images).backward()
    optimizer.step()
    gather_optimizer_state_dict(network, optimizer)


def changed_maps():
    """The maps change in place on their way to the other ranks."""
    layer = gather_factors(SPFFlatten(C, SIDE, D, grad_mode="factored"))
    maps = torch.ones(2, C, SIDE, SIDE)
    layer(maps).sum().backward()
    maps.zero_()
    layer.weight.grad.dense()


def sharded_outputs(place):
    """What a sharded network returns and what an unsharded one does, of this rank's images."""
    results = {}
    for options in ({}, {"reduction": "sum", "detach_target": False}, {"reduction": "none"}):
        for shard in (False, True):
            network = Network("factored", **options)
            network = shard_maps(network) if shard else network
            images = images_of(3, place.rank, place.world).requires_grad_()
            logits, loss = network(images)
            (gradient,) = torch.autograd.grad(logits.sum() + 3 * loss.sum(), images, create_graph=True)
            gradient.square().sum().backward()
            reduction = options.get("reduction", "mean")
            results[f"{reduction}, {'sharded' if shard else 'whole'}"] = {
                "logits": logits.detach(),
                "loss": loss.detach(),
                "images": gradient.detach(),
                "pictures": network.autoencoder.reconstruct(network.extractor(images)).detach(),
                "second": network.autoencoder.encoder.weight.grad,
            }
    text = repr(copy.deepcopy(network).autoencoder.encoder)
    return {**results, "text": text}


def wrapped_by_fsdp(place):
    """The same training with FSDP in place of DistributedDataParallel."""
    results = {}
    for way in ("gathered", "sharded"):
        network = prepared(way)
        fully_shard(network, ignored_params=ignored_parameters(network))
        optimizer = make_optimizer(network)
        norms = train(network, network, optimizer, place.rank, place.world, range(STEPS // 2))
        state = gather_optimizer_state_dict(network, optimizer)
        fresh = make_optimizer(network)
        # as a file would hand it to every rank
        states = [state]
        dist.broadcast_object_list(states)
        load_optimizer_state_dict(network, fresh, states[0])
        norms += train(network, network, fresh, place.rank, place.world, range(STEPS // 2, STEPS))
        results[way] = {"norms": norms, "network": gather_state_dict(network)}
    return results


def compiled(place):
    """The same training under torch.compile."""
    results = {}
    for way in ("gathered", "sharded"):
        network = prepared(way)
        model = torch.compile(DistributedDataParallel(network), backend="aot_eager")
        train(model, network, make_optimizer(network), place.rank, place.world)
        kind = type(network.autoencoder.encoder.weight.grad).__name__
        results[way] = {"network": gather_state_dict(network), "kind": kind}
    return results


def infinity_on_one_rank(place):
    """Loss scaling where the last rank's maps overflow: who steps, and the scale afterwards."""
    network = prepared("sharded")
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    scaler = ShardedGradScaler("cpu", init_scale=4.0, process_group=dist.group.WORLD)
    before = network.head.weight.detach().clone()
    scaler.scale(mean_loss(network, images_of(0, place.rank, place.world))).backward()
    if place.rank == place.world - 1:
        network.autoencoder.encoder.weight.grad.mul_(torch.inf)
    scaler.step(optimizer)
    scaler.update()
    return {"stepped": not torch.equal(before, network.head.weight), "scale": scaler.get_scale()}


def pairs(place):
    """Maps sharded over two of four ranks, twice: the auto-encoder's largest gradient."""
    groups = [dist.new_group([0, 1]), dist.new_group([2, 3])]
    network = shard_maps(Network("factored"), groups[place.rank // 2])
    mean_loss(network, images_of(5, place.rank % 2, 2)).backward()
    return clip_grad_norm_(network.autoencoder, 1.0, torch.inf).item()
