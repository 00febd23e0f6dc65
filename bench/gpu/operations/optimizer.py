"""With the optimizer: its step alone, on one weight, and whole training steps. NAdam everywhere."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import nn

from bench import gate, peers
from bench.cases import Case, Inputs, training_bytes, update_bytes
from bench.gate import Values
from bench.gpu.clock import Clock, NoClock, Stamps
from bench.gpu.operations.base import COMPILED, KERNEL, Builder, Operation, not_compiled
from bench.gpu.operations.training import AutoencoderTrainingStep
from bench.gpu.steps import FunctionStep, Outputs, Step, UnavailableError
from bench.gpu.truth import exact
from bench.optimizers import FOREACH, LEARNING_RATE, OURS_BF16_STATE, OURS_DENSE, TRAINERS, Trainer
from bench.peers import OURS, Autoencoder
from bench.steps import STEP
from spf_kernels import FactoredGrad, ops
from spf_kernels.optim import NAdam

Optimize = Callable[[nn.Parameter], torch.optim.Optimizer]


def _stepper(inputs: Inputs, optimize: Optimize, factored: bool, compile_step: bool = False) -> Callable[[], Outputs]:
    """Steps of a weight of its own: the others' must start where it did."""
    weight = nn.Parameter(inputs.weight.clone())
    left, right = inputs.codes_gradient.unflatten(1, weight.shape[:2]), inputs.maps.flatten(2)
    weight.grad = FactoredGrad(left, right, weight.dtype) if factored else ops.outer(left, right, weight.dtype)
    optimizer = optimize(weight)
    step = torch.compile(optimizer.step) if compile_step else optimizer.step

    def run() -> Outputs:
        step()
        return {"updated weight": weight.detach()}

    return run


def _foreach(weight: nn.Parameter) -> torch.optim.Optimizer:
    return torch.optim.NAdam([weight], lr=LEARNING_RATE, foreach=True)


def _ours(weight: nn.Parameter) -> torch.optim.Optimizer:
    return NAdam([weight], lr=LEARNING_RATE)


def _ours_bf16_state(weight: nn.Parameter) -> torch.optim.Optimizer:
    return NAdam([weight], lr=LEARNING_RATE, state_dtype=torch.bfloat16)


class Update(Operation):
    """Bytes: weight, momentum and variance read and written once, and the factors read."""

    name: ClassVar[str] = "update"

    def num_bytes(self, case: Case) -> dict[str, int]:
        """See `Operation`; of state in the weight's dtype, whatever a provider's is."""
        return {KERNEL: update_bytes(case, case.dtype.itemsize)}

    def providers(self, case: Case, sets: Sequence[Inputs]) -> dict[str, Builder]:
        """See `Operation`."""

        def builder(optimize: Optimize, factored: bool, compile_step: bool = False) -> Builder:
            def build() -> FunctionStep:
                return FunctionStep(KERNEL, [_stepper(each, optimize, factored, compile_step) for each in sets])

            return build

        return {
            FOREACH: builder(_foreach, False),
            COMPILED: builder(_foreach, False, True) if self.compiles(case) else not_compiled,
            OURS_DENSE: builder(_ours, False),
            OURS_BF16_STATE: builder(_ours_bf16_state, True),
            OURS: builder(_ours, True),
        }

    def exact(self, inputs: Inputs) -> Values:
        """See `Operation`: after the first step."""
        return exact(inputs, ["updated weight"])


class _UpdatingStep(AutoencoderTrainingStep):
    """A whole turn of the training loop, with the optimizer's step."""

    def __init__(self, trainers: Sequence[Trainer[Autoencoder]], sets: Sequence[Inputs]) -> None:
        super().__init__([trainer.module for trainer in trainers], sets, with_loss=True)
        self._trainers = trainers

    def __call__(self, index: int, clock: Clock) -> Stamps:
        start = clock.stamp()
        super().__call__(index, NoClock())
        self._trainers[index].update()
        return {STEP: (start, clock.stamp())}

    def values(self, num_maps: int) -> Values:
        """Both weights; compared after the first step."""
        module, optimizer = self._trainers[self.last].module, self._trainers[self.last].optimizer
        encoder = gate.optimized("encoder ", module.encoder, optimizer, num_maps)
        return _weights(encoder | gate.optimized("decoder ", module.decoder, optimizer, num_maps))


def _weights(values: Values) -> Values:
    """Without momentum and variance, which some keep in bf16."""
    return {name: value for name, value in values.items() if name.endswith("weight")}


def _own_weights(inputs: Inputs) -> Inputs:
    """Weights that nobody else's steps change."""
    weights = (inputs.weight, inputs.bias, inputs.decoder_weight, inputs.decoder_bias)
    weight, bias, decoder_weight, decoder_bias = (tensor.clone() for tensor in weights)
    return replace(inputs, weight=weight, bias=bias, decoder_weight=decoder_weight, decoder_bias=decoder_bias)


class WholeStep(Operation):
    """Encode, decode, loss, every gradient, and the update of both weights; float32."""

    name: ClassVar[str] = "training step"
    needs_decoder: ClassVar[bool] = True

    def num_bytes(self, case: Case) -> dict[str, int]:
        """See `Operation`; of state in float32."""
        return {STEP: training_bytes(case)}

    def providers(self, case: Case, sets: Sequence[Inputs]) -> dict[str, Builder]:
        """See `Operation`."""

        def builder(name: str) -> Builder:
            def build() -> Step:
                if case.dtype != torch.float32:
                    raise UnavailableError("float32 only: weights and state are trained in it")
                return _UpdatingStep([TRAINERS[name](_own_weights(each)) for each in sets], sets)

            return build

        builders = {COMPILED if name == peers.COMPILED else name: builder(name) for name in TRAINERS}
        return builders if self.compiles(case) else {**builders, COMPILED: not_compiled}

    def exact(self, inputs: Inputs) -> Values:
        """See `Operation`: after the first step."""
        return _weights(gate.exact_training(inputs, LEARNING_RATE, 1))
