"""Whole training steps, and the optimizer's step alone: every provider in its best form, ours included."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic

import torch
from torch import Tensor

from bench.cases import Inputs
from bench.peers import (
    BADDBMM,
    COMPILED,
    LOOP,
    OURS,
    WEIGHT_FIRST,
    Autoencoder,
    BaddbmmDecoder,
    BaddbmmEncoder,
    CompiledAutoencoder,
    CompiledDecoder,
    CompiledEncoder,
    Layer,
    LoopDecoder,
    LoopEncoder,
    OursAutoencoder,
    OursDecoder,
    OursEncoder,
    WeightFirstEncoder,
    WholeWeight,
)
from bench.steps import Module, Update
from spf_kernels import FactoredGrad
from spf_kernels.optim import NAdam

OURS_DENSE = f"{OURS}, dense gradients"
OURS_BF16_STATE = f"{OURS}, bf16 state"
# of the update alone
FOREACH = "torch.optim.NAdam, foreach"
BY_MAP = "torch.optim.NAdam, a parameter a map"
COMPILED_NADAM = "torch.compile(torch.optim.NAdam)"

BF16_BYTES = 2

# so small that the weights, which the providers share, stay what they are over all rounds
LEARNING_RATE = 1e-4


@dataclass(frozen=True)
class Trainer(Generic[Module]):
    """What is trained, and by what.

    Attributes:
        module: An auto-encoder, or what holds a weight.
        optimizer: Of its parameters.
        update: Its step, compiled or not.
    """

    module: Module
    optimizer: torch.optim.Optimizer
    update: Update


def _torch(module: Module, foreach: bool) -> Trainer[Module]:
    optimizer = torch.optim.NAdam(module.parameters(), lr=LEARNING_RATE, foreach=foreach)
    return Trainer(module, optimizer, optimizer.step)


def _compiled(module: Module) -> Trainer[Module]:
    optimizer = torch.optim.NAdam(module.parameters(), lr=LEARNING_RATE)
    return Trainer(module, optimizer, torch.compile(optimizer.step))


def _ours(module: Module, state_dtype: torch.dtype | None = None) -> Trainer[Module]:
    optimizer = NAdam(module.parameters(), lr=LEARNING_RATE, state_dtype=state_dtype)
    return Trainer(module, optimizer, optimizer.step)


def _pair(kind: type[Autoencoder], encoder: type[Layer], decoder: type[Layer], inputs: Inputs) -> Autoencoder:
    return kind(encoder(inputs.weight, inputs.bias), decoder(inputs.decoder_weight, inputs.decoder_bias))


def _our_autoencoder(inputs: Inputs, grad_mode: str) -> Autoencoder:
    encoder = OursEncoder(inputs.weight, inputs.bias)
    return OursAutoencoder(encoder, OursDecoder(inputs.decoder_weight, inputs.decoder_bias), grad_mode)


# The loop's parameters one by one: two MB each, they stay in the cache from one operation to the next, and that is
# twice as fast as foreach. The others have two large parameters, where foreach is faster.
TRAINERS: dict[str, Callable[[Inputs], Trainer[Autoencoder]]] = {
    LOOP: lambda i: _torch(_pair(Autoencoder, LoopEncoder, LoopDecoder, i), foreach=False),
    BADDBMM: lambda i: _torch(_pair(Autoencoder, BaddbmmEncoder, BaddbmmDecoder, i), foreach=True),
    WEIGHT_FIRST: lambda i: _torch(_pair(Autoencoder, WeightFirstEncoder, BaddbmmDecoder, i), foreach=True),
    COMPILED: lambda i: _compiled(_pair(CompiledAutoencoder, CompiledEncoder, CompiledDecoder, i)),
    OURS_DENSE: lambda i: _ours(_our_autoencoder(i, "dense")),
    OURS_BF16_STATE: lambda i: _ours(_our_autoencoder(i, "factored"), torch.bfloat16),
    OURS: lambda i: _ours(_our_autoencoder(i, "factored")),
}


@dataclass(frozen=True)
class UpdateInputs:
    """One weight and its gradient in both forms.

    Attributes:
        weight: (C, D, S).
        bias: (C, D), without a gradient, so it stays.
        left: (B, C, D).
        right: (B, C, S).
        gradient: (C, D, S), `outer(left, right)`.
    """

    weight: Tensor
    bias: Tensor
    left: Tensor
    right: Tensor
    gradient: Tensor


def _holder(inputs: UpdateInputs, factored: bool = False) -> WholeWeight:
    layer = WholeWeight(inputs.weight, inputs.bias)
    layer.weight.grad = FactoredGrad(inputs.left, inputs.right, inputs.weight.dtype) if factored else inputs.gradient
    return layer


def _holder_by_map(inputs: UpdateInputs) -> LoopEncoder:
    layer = LoopEncoder(inputs.weight, inputs.bias)
    for linear, gradient in zip(layer.layers, inputs.gradient, strict=True):
        linear.weight.grad = gradient
    return layer


UPDATERS: dict[str, Callable[[UpdateInputs], Trainer[Layer]]] = {
    FOREACH: lambda i: _torch(_holder(i), foreach=True),
    BY_MAP: lambda i: _torch(_holder_by_map(i), foreach=False),
    COMPILED_NADAM: lambda i: _compiled(_holder(i)),
    OURS_DENSE: lambda i: _ours(_holder(i)),
    OURS_BF16_STATE: lambda i: _ours(_holder(i, factored=True), torch.bfloat16),
    OURS: lambda i: _ours(_holder(i, factored=True)),
}
