"""The encoder's two large gradients, each kernel alone: of the maps, and of the weights."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bench.cases import Case, Inputs
from bench.gate import Values
from bench.gpu.compiled import compiled, maps_gradient_of, weight_gradient_of
from bench.gpu.operations.base import COMPILED, KERNEL, Builder, Operation, not_compiled
from bench.gpu.steps import FunctionStep, Outputs
from bench.gpu.truth import exact
from bench.peers import BADDBMM, OURS
from spf_kernels import ops

BMM = BADDBMM.replace("baddbmm", "bmm")
Function = Callable[[Inputs], Callable[[], Outputs]]


def _gradient(inputs: Inputs) -> Tensor:
    """(B, C, D), of the codes."""
    split: Tensor = inputs.codes_gradient.unflatten(1, inputs.weight.shape[:2])
    return split


def _our_maps_gradient(inputs: Inputs) -> Callable[[], Outputs]:
    gradient = _gradient(inputs)
    return lambda: {"maps gradient": ops.decode(gradient, inputs.weight, None, "none")}


def _bmm_maps_gradient(inputs: Inputs) -> Callable[[], Outputs]:
    """Views in, the result straight to its place in a buffer that is kept."""
    gradient = _gradient(inputs)
    kept = torch.empty_like(inputs.maps.flatten(2))

    def run() -> Outputs:
        torch.bmm(gradient.transpose(0, 1), inputs.weight, out=kept.transpose(0, 1))
        return {"maps gradient": kept}

    return run


def _compiled_maps_gradient(inputs: Inputs) -> Callable[[], Outputs]:
    gradient = _gradient(inputs)
    return lambda: {"maps gradient": compiled(maps_gradient_of)(gradient, inputs.weight)}


def _our_weight_gradient(inputs: Inputs) -> Callable[[], Outputs]:
    gradient, maps = _gradient(inputs), inputs.maps.flatten(2)
    return lambda: {"weight gradient": ops.outer(gradient, maps, inputs.weight.dtype)}


def _bmm_weight_gradient(inputs: Inputs) -> Callable[[], Outputs]:
    left, right = _gradient(inputs).permute(1, 2, 0), inputs.maps.flatten(2).transpose(0, 1)
    kept = torch.empty_like(inputs.weight)

    def run() -> Outputs:
        torch.bmm(left, right, out=kept)
        return {"weight gradient": kept}

    return run


def _compiled_weight_gradient(inputs: Inputs) -> Callable[[], Outputs]:
    gradient, maps = _gradient(inputs), inputs.maps.flatten(2)
    return lambda: {"weight gradient": compiled(weight_gradient_of)(gradient, maps)}


def _providers(sets: Sequence[Inputs], bmm: Function, autotuned: Function | None, ours: Function) -> dict[str, Builder]:
    def builder(function: Function) -> Builder:
        return lambda: FunctionStep(KERNEL, [function(s) for s in sets])

    return {
        BMM: builder(bmm),
        COMPILED: not_compiled if autotuned is None else builder(autotuned),
        OURS: builder(ours),
    }


class MapsGradient(Operation):
    name = "maps gradient"

    def num_bytes(self, case: Case) -> dict[str, int]:
        return {KERNEL: case.codes_bytes + case.weight_bytes + case.maps_bytes}

    def providers(self, case: Case, sets: Sequence[Inputs]) -> dict[str, Builder]:
        autotuned = _compiled_maps_gradient if self.compiles(case) else None
        return _providers(sets, _bmm_maps_gradient, autotuned, _our_maps_gradient)

    def exact(self, inputs: Inputs) -> Values:
        return exact(inputs, ("maps gradient",))


class WeightGradient(Operation):
    name = "weight gradient"

    def num_bytes(self, case: Case) -> dict[str, int]:
        return {KERNEL: case.codes_bytes + case.maps_bytes + case.weight_bytes}

    def providers(self, case: Case, sets: Sequence[Inputs]) -> dict[str, Builder]:
        autotuned = _compiled_weight_gradient if self.compiles(case) else None
        return _providers(sets, _bmm_weight_gradient, autotuned, _our_weight_gradient)

    def exact(self, inputs: Inputs) -> Values:
        return exact(inputs, ("weight gradient",))
