"""The decoder's pass of the training step, without autograd: loss, error and the codes' gradient."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bench.cases import Case, Inputs
from bench.gate import Values
from bench.gpu.compiled import compiled, reconstruct_of
from bench.gpu.operations.base import COMPILED, KERNEL, Builder, Operation, not_compiled
from bench.gpu.steps import FunctionStep, Outputs
from bench.gpu.truth import exact
from bench.peers import BADDBMM, OURS
from spf_kernels import ops

# (loss (B,), error (B, C, S), codes' gradient (B, C, D))
Results = tuple[Tensor, Tensor, Tensor]
Kernel = Callable[[Tensor, Tensor, Tensor, Tensor], Results]


def _ours(codes: Tensor, maps: Tensor, weight: Tensor, bias: Tensor) -> Results:
    loss, error, _, gradient = ops.reconstruct(codes, maps, weight, bias, "none", True, False, True)
    return loss, error, gradient


def _baddbmm(codes: Tensor, maps: Tensor, weight: Tensor, bias: Tensor) -> Results:
    decoded = torch.baddbmm(bias.unsqueeze(1), codes.transpose(0, 1), weight)
    error = decoded.sub_(maps.transpose(0, 1))
    # summed in float32 without a float32 copy of the error
    loss = torch.linalg.vector_norm(error, dim=(0, 2), dtype=torch.float32).square()
    gradient = torch.bmm(error, weight.transpose(1, 2))
    return loss, error.transpose(0, 1), gradient.transpose(0, 1)


def _compiled(codes: Tensor, maps: Tensor, weight: Tensor, bias: Tensor) -> Results:
    results: Results = compiled(reconstruct_of)(codes, maps, weight, bias)
    return results


def _function(kernel: Kernel, inputs: Inputs) -> Callable[[], Outputs]:
    codes, maps = inputs.codes.unflatten(1, inputs.decoder_weight.shape[:2]), inputs.maps.flatten(2)

    def run() -> Outputs:
        loss, error, gradient = kernel(codes, maps, inputs.decoder_weight, inputs.decoder_bias)
        return {"loss": loss, "error": error, "codes gradient": gradient}

    return run


class Reconstruct(Operation):
    name = "reconstruct"
    needs_encoder = False
    needs_decoder = True

    def num_bytes(self, case: Case) -> dict[str, int]:
        bias = case.num_maps * case.pixels * case.dtype.itemsize
        # codes, maps, weight and bias are read; the error and the codes' gradient (in float32) are written
        gradient = case.codes_bytes * 4 // case.dtype.itemsize
        return {KERNEL: case.codes_bytes + 2 * case.maps_bytes + case.weight_bytes + bias + gradient}

    def providers(self, case: Case, sets: Sequence[Inputs]) -> dict[str, Builder]:
        def builder(kernel: Kernel) -> Builder:
            return lambda: FunctionStep(KERNEL, [_function(kernel, s) for s in sets])

        return {
            BADDBMM: builder(_baddbmm),
            COMPILED: builder(_compiled) if self.compiles(case) else not_compiled,
            OURS: builder(_ours),
        }

    def exact(self, inputs: Inputs) -> Values:
        return exact(inputs, ("loss", "error", "codes gradient"))
