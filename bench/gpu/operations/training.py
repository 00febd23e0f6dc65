"""The default training loop through autograd: the encoder alone, and the auto-encoder with its loss."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from bench import gate
from bench.cases import Case, Inputs, backward_bytes, decoder_bytes, forward_bytes
from bench.gate import Values
from bench.gpu.clock import Clock, Stamps
from bench.gpu.compiled import codes_of, compiled, loss_of
from bench.gpu.operations.base import COMPILED, LOOP_GRAPH, OURS_GRAPH, Builder, Operation, not_compiled
from bench.gpu.steps import GraphedStep, Step
from bench.peers import (
    AUTOENCODERS,
    BADDBMM,
    LOOP,
    OURS,
    WEIGHT_FIRST,
    Autoencoder,
    BaddbmmEncoder,
    Layer,
    LoopEncoder,
    OursEncoder,
    WeightFirstEncoder,
    WholeWeight,
)
from bench.steps import BACKWARD, FORWARD_BACKWARD

Module = TypeVar("Module", bound=nn.Module)


class CompiledEncoder(WholeWeight):
    name = COMPILED

    def forward(self, maps: Tensor) -> Tensor:
        codes: Tensor = compiled(codes_of)(maps.flatten(2), self.weight, self.bias).flatten(1)
        return codes


class CompiledDecoder(WholeWeight):
    name = COMPILED

    def forward(self, codes: Tensor, maps: Tensor) -> Tensor:
        split = codes.unflatten(1, self.weight.shape[:2])
        loss: Tensor = compiled(loss_of)(split, maps.flatten(2), self.weight, self.bias)
        return loss


def _compiled_autoencoder(weight: Tensor, bias: Tensor, decoder_weight: Tensor, decoder_bias: Tensor) -> Autoencoder:
    return Autoencoder(CompiledEncoder(weight, bias), CompiledDecoder(decoder_weight, decoder_bias))


class TrainingStep(Step, Generic[Module]):
    """zero_grad (set_to_none), forward, backward; a step's gradients live until the next one of its provider begins.

    Args:
        modules: One a weight set.
        sets: Their inputs; the maps get a gradient.
        with_loss: Whether a loss is the second output, beside the codes.
    """

    def __init__(self, modules: Sequence[Module], sets: Sequence[Inputs], with_loss: bool) -> None:
        self.modules = modules
        self.maps = [s.maps.detach().requires_grad_() for s in sets]
        self.outputs: tuple[Tensor, ...] = ()
        self.last = 0
        self._upstream: list[tuple[Tensor | None, ...]] = [
            (s.codes_gradient, None) if with_loss else (s.codes_gradient,) for s in sets
        ]

    def __call__(self, index: int, clock: Clock) -> Stamps:
        module, maps = self.modules[index], self.maps[index]
        self.outputs = ()
        start = clock.stamp()
        self.modules[self.last].zero_grad(set_to_none=True)
        self.maps[self.last].grad = None
        result: Any = module(maps)
        outputs = result if isinstance(result, tuple) else (result,)
        middle = clock.stamp()
        torch.autograd.backward(outputs, self._upstream[index])
        end = clock.stamp()
        self.last = index
        self.outputs = tuple(output.detach() for output in outputs)
        return {FORWARD_BACKWARD: (start, end), BACKWARD: (middle, end)}

    def maps_gradient(self, num_maps: int) -> Tensor:
        """Of the chosen maps."""
        gradient = self.maps[self.last].grad
        if gradient is None:
            raise RuntimeError("no gradient reached the maps")
        return gradient.flatten(2)[:, gate.chosen_maps(num_maps)]


class EncoderStep(TrainingStep[Layer]):
    def values(self, num_maps: int) -> Values:
        parameters = gate.parameter_gradients(self.modules[self.last], num_maps)
        codes = gate.by_map(self.outputs[0], num_maps)
        return {"codes": codes, "maps gradient": self.maps_gradient(num_maps), **parameters}


class AutoencoderTrainingStep(TrainingStep[Autoencoder]):
    def values(self, num_maps: int) -> Values:
        module = self.modules[self.last]
        return {
            "codes": gate.by_map(self.outputs[0], num_maps),
            "maps gradient": self.maps_gradient(num_maps),
            "encoder weight gradient": gate.parameter_gradients(module.encoder, num_maps)["weight gradient"],
            "decoder weight gradient": gate.parameter_gradients(module.decoder, num_maps)["weight gradient"],
        }


def _graphed(build: Callable[[], Step], sets: Sequence[Inputs]) -> Builder:
    return lambda: GraphedStep(build, len(sets), FORWARD_BACKWARD, sets[0].maps.device)


class Backward(Operation):
    """The encoder's turn of the training loop; with a gradient for the maps."""

    name = "backward"

    def num_bytes(self, case: Case) -> dict[str, int]:
        backward = backward_bytes(case, maps_gradient=True)
        return {BACKWARD: backward, FORWARD_BACKWARD: forward_bytes(case) + backward}

    def providers(self, case: Case, sets: Sequence[Inputs]) -> dict[str, Builder]:
        def plain(provider: type[Layer]) -> Builder:
            return lambda: EncoderStep([provider(s.weight, s.bias) for s in sets], sets, with_loss=False)

        return {
            LOOP: plain(LoopEncoder),
            LOOP_GRAPH: _graphed(plain(LoopEncoder), sets),
            BADDBMM: plain(BaddbmmEncoder),
            WEIGHT_FIRST: plain(WeightFirstEncoder),
            COMPILED: plain(CompiledEncoder) if self.compiles(case) else not_compiled,
            OURS_GRAPH: _graphed(plain(OursEncoder), sets),
            OURS: plain(OursEncoder),
        }

    def exact(self, inputs: Inputs) -> Values:
        return gate.exact_encoder(inputs)


class AutoencoderStep(Operation):
    """Encode, decode, loss, and every gradient, with a classifier's gradient at the codes."""

    name = "auto-encoder step"
    needs_decoder = True

    def num_bytes(self, case: Case) -> dict[str, int]:
        # the whole alone: ours computes the loss's gradients in the forward
        encoder = forward_bytes(case) + backward_bytes(case, maps_gradient=True)
        return {FORWARD_BACKWARD: encoder + decoder_bytes(case)}

    def providers(self, case: Case, sets: Sequence[Inputs]) -> dict[str, Builder]:
        def plain(name: str) -> Builder:
            build = AUTOENCODERS.get(name, _compiled_autoencoder)
            return lambda: AutoencoderTrainingStep(
                [build(s.weight, s.bias, s.decoder_weight, s.decoder_bias) for s in sets],
                sets,
                with_loss=True,
            )

        return {
            LOOP: plain(LOOP),
            LOOP_GRAPH: _graphed(plain(LOOP), sets),
            BADDBMM: plain(BADDBMM),
            WEIGHT_FIRST: plain(WEIGHT_FIRST),
            COMPILED: plain(COMPILED) if self.compiles(case) else not_compiled,
            OURS_GRAPH: _graphed(plain(OURS), sets),
            OURS: plain(OURS),
        }

    def exact(self, inputs: Inputs) -> Values:
        return gate.exact_autoencoder(inputs)
