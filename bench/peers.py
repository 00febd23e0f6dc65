"""Every provider in its best form, ours included, behind one signature: built from a weight and a bias, then called.

Encoders give codes (B, C*D) from maps (B, C, H, W); decoders the mean squared error () of codes against maps. All take
weights in the layout (C, D, S), and share the storage they are given where their own layout allows it.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import spf_kernels
from bench.cases import Case
from spf_kernels import ops

OURS = "spf_kernels"
KERNELS_ALONE = "spf_kernels, kernels alone"
LOOP = "loop of nn.Linear"
BADDBMM = "baddbmm"
WEIGHT_FIRST = "baddbmm, weight first"
COMPILED = "torch.compile(einsum)"
CONV = "grouped conv1d"

Read = Callable[[Tensor], Tensor]


def is_ours(provider: str) -> bool:
    """Whether it is no peer: ours, in one of its forms."""
    return provider.startswith(OURS)


class Layer(nn.Module):
    """All encoders, or all decoders, of one provider."""

    name: ClassVar[str]

    def weight_of(self, index: int, read: Read) -> Tensor:
        """Of map `index`, (D, S): what `read` finds for the parameter, itself or its gradient, say."""
        raise NotImplementedError

    def bias_of(self, index: int, read: Read) -> Tensor:
        """Of map `index`."""
        raise NotImplementedError

    def gradient(self, index: int) -> tuple[Tensor, Tensor]:
        """Of map `index`: the weight's (D, S) and the bias' gradient."""
        return self.weight_of(index, _gradient), self.bias_of(index, _gradient)


class WholeWeight(Layer):
    """A layer whose weight (C, D, S) and bias are one parameter each."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)

    def weight_of(self, index: int, read: Read) -> Tensor:
        return read(self.weight)[index]

    def bias_of(self, index: int, read: Read) -> Tensor:
        return read(self.bias)[index]


def _gradient(parameter: Tensor) -> Tensor:
    if parameter.grad is None:
        raise RuntimeError("the parameter has no gradient: the step did not run")
    return parameter.grad


def _linears(weights: Sequence[Tensor], biases: Sequence[Tensor]) -> list[nn.Linear]:
    """One nn.Linear a map around the given weights (outputs, inputs)."""
    layers = []
    for weight, bias in zip(weights, biases, strict=True):
        layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta", dtype=weight.dtype)
        layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
        layers.append(layer)
    return layers


class OursEncoder(WholeWeight):
    name = OURS

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__(weight, bias)
        C, D, S = weight.shape
        self.layer = spf_kernels.SPFFlatten(C, math.isqrt(S), D, device="meta")
        self.layer.weight, self.layer.bias = self.weight, self.bias

    def forward(self, maps: Tensor) -> Tensor:
        codes: Tensor = self.layer(maps)
        return codes


class LoopEncoder(Layer):
    name = LOOP

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_linears(weight.unbind(0), bias.unbind(0)))

    def forward(self, maps: Tensor) -> Tensor:
        # unbind: one node in the graph, where maps[:, c] would make every backward allocate a full map of zeros
        inputs = maps.flatten(2).unbind(1)
        return torch.cat([layer(x) for layer, x in zip(self.layers, inputs, strict=True)], 1)

    def weight_of(self, index: int, read: Read) -> Tensor:
        return read(cast(nn.Linear, self.layers[index]).weight)

    def bias_of(self, index: int, read: Read) -> Tensor:
        return read(cast(nn.Linear, self.layers[index]).bias)


class BaddbmmEncoder(WholeWeight):
    """Views in, and without gradients the result goes straight to its place in a buffer that is kept."""

    name = BADDBMM

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__(weight, bias)
        self._kept: Tensor | None = None

    def forward(self, maps: Tensor) -> Tensor:
        operands = (self.bias.unsqueeze(1), maps.flatten(2).transpose(0, 1), self.weight.transpose(1, 2))
        if torch.is_grad_enabled():
            return torch.baddbmm(*operands).transpose(0, 1).flatten(1)
        if self._kept is None:
            self._kept = maps.new_empty(maps.shape[0], *self.weight.shape[:2])
        torch.baddbmm(*operands, out=self._kept.transpose(0, 1))
        return self._kept.flatten(1)


class WeightFirstEncoder(WholeWeight):
    """The weight as the left operand: its gradient then comes out in its own layout, which saves autograd a copy."""

    name = WEIGHT_FIRST

    def forward(self, maps: Tensor) -> Tensor:
        codes = torch.baddbmm(self.bias.unsqueeze(2), self.weight, maps.flatten(2).permute(1, 2, 0))
        return codes.permute(2, 0, 1).flatten(1)


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`torch.compile` at the first call: processes that do not compile are spared its import."""
    compiled: Callable[..., Any] = torch.compile(function)
    return compiled


def _einsum_codes(maps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return (torch.einsum("bcs,cds->bcd", maps, weight) + bias).flatten(1)


class CompiledEncoder(WholeWeight):
    name = COMPILED

    def forward(self, maps: Tensor) -> Tensor:
        codes: Tensor = _compiled(_einsum_codes)(maps.flatten(2), self.weight, self.bias)
        return codes


class ConvEncoder(WholeWeight):
    name = CONV

    def forward(self, maps: Tensor) -> Tensor:
        C, D, S = self.weight.shape
        codes = F.conv1d(maps.view(-1, C * S, 1), self.weight.view(C * D, S, 1), self.bias.view(-1), groups=C)
        return codes.squeeze(2)


def inference_encoders() -> dict[str, type[Layer]]:
    """The providers of the forward, ours last."""
    classes: tuple[type[Layer], ...] = (LoopEncoder, BaddbmmEncoder, CompiledEncoder, ConvEncoder, OursEncoder)
    return {provider.name: provider for provider in classes}


def training_encoders(case: Case) -> dict[str, type[Layer]]:
    """The providers of forward and backward, ours last.

    torch.compile (some seconds of compilation a case) takes part at the paper's size, the grouped convolution (far
    slower than all others) in the main case.
    """
    classes: list[type[Layer]] = [LoopEncoder, BaddbmmEncoder, WeightFirstEncoder]
    if case.is_paper_size or case.num_maps < 128:
        classes.append(CompiledEncoder)
    if case.is_main or case.num_maps < 128:
        classes.append(ConvEncoder)
    classes.append(OursEncoder)
    return {provider.name: provider for provider in classes}


class OursDecoder(WholeWeight):
    name = OURS

    def forward(self, codes: Tensor, maps: Tensor) -> Tensor:
        return spf_kernels.functional.spf_reconstruction_loss(codes, maps, self.weight, self.bias)


class KernelsAlone(WholeWeight):
    """Our kernels without autograd: loss and all gradients."""

    name = KERNELS_ALONE

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__(weight, bias)
        self.codes_gradient = weight.new_empty(0)

    @torch.no_grad()
    def forward(self, codes: Tensor, maps: Tensor) -> Tensor:
        C, D, _ = self.weight.shape
        codes = codes.unflatten(1, (C, D))
        loss, error, _, codes_gradient = ops.reconstruct(
            codes, maps.flatten(2), self.weight, self.bias, "none", True, False, True
        )
        scale = torch.full((len(codes), 1, 1), 2 / maps.numel())
        self.weight.grad = ops.outer(codes * scale, error, self.weight.dtype)
        self.bias.grad = ops.outer(scale.expand(-1, C, 1), error, self.bias.dtype).squeeze(1)
        self.codes_gradient = (codes_gradient * scale).to(codes.dtype).flatten(1)
        total: Tensor = loss.sum() / maps.numel()
        return total


class LoopDecoder(Layer):
    name = LOOP

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        # a Linear keeps (outputs, inputs): a copy of its own, in the layout it would have been trained in
        self.layers = nn.ModuleList(_linears(weight.transpose(1, 2).contiguous().unbind(0), bias.unbind(0)))

    def forward(self, codes: Tensor, maps: Tensor) -> Tensor:
        inputs = codes.unflatten(1, (len(self.layers), -1)).unbind(1)
        targets = maps.flatten(2).unbind(1)
        losses = [F.mse_loss(layer(z), x) for layer, z, x in zip(self.layers, inputs, targets, strict=True)]
        return torch.stack(losses).mean()

    def weight_of(self, index: int, read: Read) -> Tensor:
        return read(cast(nn.Linear, self.layers[index]).weight).T

    def bias_of(self, index: int, read: Read) -> Tensor:
        return read(cast(nn.Linear, self.layers[index]).bias)


class BaddbmmDecoder(WholeWeight):
    name = BADDBMM

    def forward(self, codes: Tensor, maps: Tensor) -> Tensor:
        inputs = codes.unflatten(1, self.weight.shape[:2]).transpose(0, 1)
        decoded = torch.baddbmm(self.bias.unsqueeze(1), inputs, self.weight)
        return F.mse_loss(decoded, maps.flatten(2).transpose(0, 1))


def _einsum_loss(codes: Tensor, maps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.mse_loss(torch.einsum("bcd,cds->bcs", codes, weight) + bias, maps)


class CompiledDecoder(WholeWeight):
    name = COMPILED

    def forward(self, codes: Tensor, maps: Tensor) -> Tensor:
        loss: Tensor = _compiled(_einsum_loss)(
            codes.unflatten(1, self.weight.shape[:2]), maps.flatten(2), self.weight, self.bias
        )
        return loss


def decoders(case: Case) -> dict[str, type[Layer]]:
    """The providers of decoder, loss and gradients through autograd, ours last."""
    classes: list[type[Layer]] = [LoopDecoder, BaddbmmDecoder]
    if case.is_paper_size or case.num_maps < 128:
        classes.append(CompiledDecoder)
    classes.append(OursDecoder)
    return {provider.name: provider for provider in classes}


class Autoencoder(nn.Module):
    """An encoder and a decoder of the same provider; the maps are a constant as the loss' target."""

    encoder: Layer
    decoder: Layer

    def __init__(self, encoder: Layer, decoder: Layer) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        codes = self.encoder(maps)
        return codes, self.decoder(codes, maps.detach())


def _einsum_autoencoder(
    maps: Tensor, weight: Tensor, bias: Tensor, decoder_weight: Tensor, decoder_bias: Tensor
) -> tuple[Tensor, Tensor]:
    codes = torch.einsum("bcs,cds->bcd", maps, weight) + bias
    decoded = torch.einsum("bcd,cds->bcs", codes, decoder_weight) + decoder_bias
    return codes.flatten(1), F.mse_loss(decoded, maps.detach())


class CompiledAutoencoder(Autoencoder):
    """Encoder, decoder and loss in one graph."""

    encoder: WholeWeight
    decoder: WholeWeight

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        parameters = (self.encoder.weight, self.encoder.bias, self.decoder.weight, self.decoder.bias)
        codes, loss = _compiled(_einsum_autoencoder)(maps.flatten(2), *parameters)
        return codes, loss


class OursAutoencoder(Autoencoder):
    """`spf_kernels.SPFAutoencoder`; `encoder` and `decoder` hold its parameters."""

    def __init__(self, encoder: WholeWeight, decoder: WholeWeight, grad_mode: str = "dense") -> None:
        super().__init__(encoder, decoder)
        C, D, S = encoder.weight.shape
        self.layer = spf_kernels.SPFAutoencoder(C, math.isqrt(S), D, device="meta", grad_mode=grad_mode)
        self.layer.encoder.weight, self.layer.encoder.bias = encoder.weight, encoder.bias
        self.layer.decoder.weight, self.layer.decoder.bias = decoder.weight, decoder.bias

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        output: spf_kernels.AutoencoderOutput = self.layer(maps)
        return output


AUTOENCODERS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Autoencoder]] = {
    LOOP: lambda w, b, v, c: Autoencoder(LoopEncoder(w, b), LoopDecoder(v, c)),
    BADDBMM: lambda w, b, v, c: Autoencoder(BaddbmmEncoder(w, b), BaddbmmDecoder(v, c)),
    WEIGHT_FIRST: lambda w, b, v, c: Autoencoder(WeightFirstEncoder(w, b), BaddbmmDecoder(v, c)),
    OURS: lambda w, b, v, c: OursAutoencoder(OursEncoder(w, b), OursDecoder(v, c)),
}
