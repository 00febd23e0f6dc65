"""The encoder's forward without gradients, as users call it."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.cases import Case, Inputs, forward_bytes
from bench.gate import Values
from bench.gpu.compiled import codes_of, compiled
from bench.gpu.operations.base import COMPILED, GROUPED, LOOP_GRAPH, OURS_GRAPH, Builder, Operation, not_compiled
from bench.gpu.steps import FunctionStep, GraphedStep, Outputs, UnavailableError
from bench.gpu.truth import exact
from bench.peers import BADDBMM, CONV, LOOP, OURS, BaddbmmEncoder, ConvEncoder, Layer, LoopEncoder, OursEncoder
from bench.steps import FORWARD

# elements
_LARGEST_CONVOLUTION = 1 << 30

Encode = Callable[[Tensor], Tensor]


def _step(encoders: Sequence[Encode], sets: Sequence[Inputs]) -> FunctionStep:
    """One encoder a weight set, called on its maps."""

    def call(encode: Encode, maps: Tensor) -> Callable[[], Outputs]:
        return lambda: {"codes": encode(maps)}

    return FunctionStep(FORWARD, [call(encode, s.maps) for encode, s in zip(encoders, sets, strict=True)])


def _modules(provider: type[Layer], sets: Sequence[Inputs]) -> FunctionStep:
    return _step([provider(s.weight, s.bias) for s in sets], sets)


def _compiled(inputs: Inputs) -> Encode:
    return lambda maps: compiled(codes_of)(maps.flatten(2), inputs.weight, inputs.bias).flatten(1)


def _grouped(inputs: Inputs) -> Encode:
    if not hasattr(F, "grouped_mm"):
        raise UnavailableError(f"torch {torch.__version__} has no F.grouped_mm")
    grouped: Callable[[Tensor, Tensor], Tensor] = F.grouped_mm

    def encode(maps: Tensor) -> Tensor:
        products = grouped(maps.flatten(2).transpose(0, 1), inputs.weight.transpose(1, 2))
        return (products + inputs.bias.unsqueeze(1)).transpose(0, 1).flatten(1)

    return encode


def _convolution(case: Case, sets: Sequence[Inputs]) -> FunctionStep:
    if case.weight_bytes // case.dtype.itemsize >= _LARGEST_CONVOLUTION:
        raise UnavailableError("not tried with 2^30 weights and more, where it takes seconds a call at best")
    return _modules(ConvEncoder, sets)


class Forward(Operation):
    name = "forward"

    def num_bytes(self, case: Case) -> dict[str, int]:
        return {FORWARD: forward_bytes(case)}

    def providers(self, case: Case, sets: Sequence[Inputs]) -> dict[str, Builder]:
        device = sets[0].maps.device

        def graphed(provider: type[Layer]) -> Builder:
            return lambda: GraphedStep(lambda: _modules(provider, sets), len(sets), FORWARD, device)

        def plain(provider: type[Layer]) -> Builder:
            return lambda: _modules(provider, sets)

        return {
            LOOP: plain(LoopEncoder),
            LOOP_GRAPH: graphed(LoopEncoder),
            BADDBMM: plain(BaddbmmEncoder),
            COMPILED: (lambda: _step([_compiled(s) for s in sets], sets)) if self.compiles(case) else not_compiled,
            CONV: lambda: _convolution(case, sets),
            GROUPED: lambda: _step([_grouped(s) for s in sets], sets),
            OURS_GRAPH: graphed(OursEncoder),
            OURS: plain(OursEncoder),
        }

    def exact(self, inputs: Inputs) -> Values:
        return exact(inputs, ("codes",))

    def compiles(self, case: Case) -> bool:
        return case.is_paper_size or case.num_maps < 128
