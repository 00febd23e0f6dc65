"""`SPFFlatten`, the drop-in for a flatten layer, and `SPFAutoencoder`, which adds the decoders and their loss."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from spf_kernels import functional
from spf_kernels.folding import fold_upsampling
from spf_kernels.initialization import decoder_start, encoder_start
from spf_kernels.linears import check_linears, load_linears
from spf_kernels.map_exchange import Exchange, MapShards
from spf_kernels.per_map_layer import Device, PerMapLayer
from spf_kernels.sizes import check_map_size, square_of


class SPFFlatten(PerMapLayer):
    """Spatially-preserving flattening: each feature map through an encoder of its own, the codes concatenated.

    The drop-in for `nn.Flatten` on feature maps (SPF paper, section 2.1), and the fast form of a loop over
    `num_maps` layers `nn.Linear(pixels, code_size)` with `torch.cat`.

    Args:
        num_maps: C, the channels of the feature maps.
        map_size: H x W, one integer for square maps.
        code_size: D, the numbers each map becomes.
        activation: None, "relu", "tanh" or "sigmoid".
        bias: Whether the encoders have a bias.
        device: Of the parameters.
        dtype: Of the parameters; bfloat16 weights also take float32 maps.
        grad_mode: "dense", or "factored": the backward leaves the weight's gradient as its factors, a
            `spf_kernels.FactoredGrad`, and never writes the dense one (see `spf_kernels.functional`).
        init: What every map's encoder starts as, whatever the activation (see `spf_kernels.initialization`). "linear":
            random, as `nn.Linear`. "grid": averages over a grid of at most D cells, `nn.AdaptiveAvgPool2d`; "dct": the
            D lowest frequencies of the map. Both with bias 0; codes beyond the cells, or the H*W frequencies, start
            random.

    Attributes:
        weight: (C, D, H*W).
        bias: (C, D) or None.

    Raises:
        ValueError: A size below 1, an unknown activation, grad_mode or init.
    """

    def __init__(
        self,
        num_maps: int,
        map_size: int | Sequence[int],
        code_size: int,
        activation: str | None = None,
        bias: bool = True,
        device: Device = None,
        dtype: torch.dtype | None = None,
        *,
        grad_mode: str = "dense",
        init: str = "linear",
    ) -> None:
        super().__init__(num_maps, map_size, code_size, activation, grad_mode, init)
        self._create(self.map_size[0] * self.map_size[1], code_size, bias, device, dtype)

    def _start(self) -> Tensor:
        return encoder_start(self.init, self.map_size, self.code_size)

    def forward(self, maps: Tensor) -> Tensor:
        """Encodes and concatenates.

        Args:
            maps: (B, C, H, W) or (B, C, H*W).

        Returns:
            (B, C*D).

        Raises:
            ValueError: Maps of another shape or device.
            TypeError: Maps of a dtype that does not go with the weight's.
        """
        self.check_map_size(maps)
        if self.shards is None:
            return self.encode(maps)
        exchange, maps = self.shards.send_maps(maps, self.weight)
        return self.return_codes(exchange, self.encode(maps))

    def encode(self, maps: Tensor) -> Tensor:
        """The codes (B, maps here * D) of maps (B, maps here, H, W)."""
        return functional.spf_flatten(maps, self.weight, self.bias, self.activation, grad_mode=self.grad_mode)

    def return_codes(self, exchange: Exchange, codes: Tensor) -> Tensor:
        """The codes (B, C*D) of this rank's samples, from those (samples of all ranks, maps here * D) of its maps."""
        returned: Tensor = exchange.return_maps("codes", codes.unflatten(1, (-1, self.code_size)))
        return returned.flatten(1)

    @classmethod
    def from_linears(
        cls,
        linears: Sequence[nn.Linear],
        activation: str | None = None,
        map_size: int | Sequence[int] | None = None,
        *,
        grad_mode: str = "dense",
    ) -> "SPFFlatten":
        """Takes over the weights of a loop over `nn.Linear(pixels, code_size)`, one a map.

        Args:
            linears: One layer a map, all alike.
            activation: What the loop applies after each layer.
            map_size: (height, width); may be left out for square maps.
            grad_mode: "dense" or "factored".

        Returns:
            A module that gives `torch.cat([act(l(m)) for l, m in zip(linears, maps.flatten(2).unbind(1))], 1)`.

        Raises:
            ValueError: No layers, layers that differ, pixels that do not make `map_size`, an unknown activation or
                grad_mode.
            TypeError: Something that is not an nn.Linear.
        """
        first = check_linears("linears", linears)
        size = square_of(first.in_features) if map_size is None else check_map_size(map_size)
        if size[0] * size[1] != first.in_features:
            raise ValueError(f"map_size must have {first.in_features} pixels, got {size}")
        like = (first.bias is not None, first.weight.device, first.weight.dtype)
        module = cls(len(linears), size, first.out_features, activation, *like, grad_mode=grad_mode)
        load_linears(module.weight, module.bias, linears, transpose=False)
        return module

    def to_linears(self) -> list[nn.Linear]:
        """The way back: one `nn.Linear(pixels, code_size)` a map, with copies of the weights."""
        return self._to_linears(transpose=False)

    def fold_upsampling(self, map_size: int | Sequence[int], align_corners: bool = False) -> "SPFFlatten":
        """An encoder of maps that gives the codes which this one gives the maps upsampled to its own size.

        Args:
            map_size: Of the maps before `nn.functional.interpolate(maps, self.map_size, mode="bilinear")`.
            align_corners: As `interpolate` takes it.

        Returns:
            A module with weights of its own, see `spf_kernels.fold_upsampling`.

        Raises:
            ValueError: A size below 1, a sharded module.
        """
        self._check_whole()
        like = (self.bias is not None, self.weight.device, self.weight.dtype)
        sizes = (self.num_maps, map_size, self.code_size)
        module = SPFFlatten(*sizes, self.activation, *like, grad_mode=self.grad_mode)
        with torch.no_grad():
            module.weight.copy_(fold_upsampling(self.weight, map_size, self.map_size, align_corners))
            if self.bias is not None and module.bias is not None:
                module.bias.copy_(self.bias)
        return module


class SPFDecoder(PerMapLayer):
    """The decoders of `SPFAutoencoder`: one `nn.Linear(code_size, pixels)` a map.

    Attributes:
        weight: (C, D, H*W), the encoder's layout.
        bias: (C, H*W) or None.
    """

    def __init__(
        self,
        num_maps: int,
        map_size: int | Sequence[int],
        code_size: int,
        activation: str | None = None,
        bias: bool = True,
        device: Device = None,
        dtype: torch.dtype | None = None,
        *,
        grad_mode: str = "dense",
        init: str = "linear",
    ) -> None:
        super().__init__(num_maps, map_size, code_size, activation, grad_mode, init)
        self._create(code_size, self.map_size[0] * self.map_size[1], bias, device, dtype)

    def _start(self) -> Tensor:
        return decoder_start(self.init, self.map_size, self.code_size)

    def forward(self, codes: Tensor) -> Tensor:
        """Decodes (B, C*D) codes to (B, C, H, W) maps."""
        if self.shards is None:
            maps = self._decode(codes)
        else:
            exchange, codes = self.shards.send_codes(codes, self.weight)
            maps = exchange.return_maps("maps", self._decode(codes))
        return maps.view(maps.shape[0], self.num_maps, *self.map_size)

    def _decode(self, codes: Tensor) -> Tensor:
        return functional.spf_reconstruct(codes, self.weight, self.bias, self.activation, grad_mode=self.grad_mode)


class AutoencoderOutput(NamedTuple):
    """What `SPFAutoencoder` returns.

    Attributes:
        codes: (B, C*D).
        loss: () or (B,), the reconstruction loss.
    """

    codes: Tensor
    loss: Tensor


class SPFAutoencoder(nn.Module):
    """An auto-encoder for each feature map (SPF paper, section 2.2): codes for the classifier, and their loss.

    Args:
        num_maps: C, the channels of the feature maps.
        map_size: H x W, one integer for square maps.
        code_size: D, the numbers each map becomes.
        activation: The encoders': None, "relu", "tanh" or "sigmoid".
        decoder_activation: The decoders', likewise.
        bias: Whether encoders and decoders have a bias.
        reduction: Of the loss: "mean", "sum" or "none" (one mean a sample).
        detach_target: Whether the maps are a constant as the decoders' target. The paper does not say; a constant
            keeps the loss from pulling the maps towards what is easy to encode.
        device: Of the parameters.
        dtype: Of the parameters.
        grad_mode: "dense" or "factored", of both weights, see `SPFFlatten`.
        init: The encoders' start, see `SPFFlatten`. The decoders' goes with it: "grid" paints a cell's value on the
            cell, "dct" sums the frequencies up, which without activations is the best linear reconstruction. Both
            with bias 0, and weight 0 for codes that start random.

    Raises:
        ValueError: A size below 1, an unknown activation, reduction, grad_mode or init.
    """

    def __init__(
        self,
        num_maps: int,
        map_size: int | Sequence[int],
        code_size: int,
        activation: str | None = None,
        decoder_activation: str | None = None,
        bias: bool = True,
        reduction: str = "mean",
        detach_target: bool = True,
        device: Device = None,
        dtype: torch.dtype | None = None,
        *,
        grad_mode: str = "dense",
        init: str = "linear",
    ) -> None:
        super().__init__()
        if reduction not in functional.REDUCTIONS:
            raise ValueError(f"reduction must be one of {functional.REDUCTIONS}, got {reduction!r}")
        sizes = (num_maps, map_size, code_size)
        self.encoder = SPFFlatten(*sizes, activation, bias, device, dtype, grad_mode=grad_mode, init=init)
        self.decoder = SPFDecoder(*sizes, decoder_activation, bias, device, dtype, grad_mode=grad_mode, init=init)
        self.reduction = reduction
        self.detach_target = detach_target

    def forward(self, maps: Tensor) -> AutoencoderOutput:
        """Encodes the maps and measures how well the codes give them back.

        Args:
            maps: (B, C, H, W).

        Returns:
            codes (B, C*D) and the loss.

        Raises:
            ValueError: Maps of another shape or device.
            TypeError: Maps of a dtype that does not go with the weights'.
        """
        self.encoder.check_map_size(maps)
        if self.encoder.shards is not None:
            return self._forward_of_shards(maps, self.encoder.shards)
        maps = functional.prepare_maps(maps, self.encoder.weight)
        codes = self.encoder(maps)
        return AutoencoderOutput(codes, self._loss(codes, maps, self.reduction))

    def _forward_of_shards(self, maps: Tensor, shards: MapShards) -> AutoencoderOutput:
        exchange, maps = shards.send_maps(maps, self.encoder.weight)
        codes = self.encoder.encode(maps)
        losses = exchange.return_losses(self._loss(codes, maps, "none"))
        codes = self.encoder.return_codes(exchange, codes)
        if self.reduction == "sum":
            return AutoencoderOutput(codes, losses.sum() * (shards.num_maps * self.decoder.weight.shape[2]))
        return AutoencoderOutput(codes, losses.mean() if self.reduction == "mean" else losses)

    def _loss(self, codes: Tensor, maps: Tensor, reduction: str) -> Tensor:
        return functional.spf_reconstruction_loss(
            codes,
            maps,
            self.decoder.weight,
            self.decoder.bias,
            self.decoder.activation,
            reduction,
            self.detach_target,
            grad_mode=self.decoder.grad_mode,
        )

    def reconstruct(self, maps: Tensor) -> Tensor:
        """The decoded maps (B, C, H, W), for pictures."""
        decoded: Tensor = self.decoder(self.encoder(maps))
        return decoded

    @classmethod
    def from_linears(
        cls,
        encoders: Sequence[nn.Linear],
        decoders: Sequence[nn.Linear],
        activation: str | None = None,
        decoder_activation: str | None = None,
        map_size: int | Sequence[int] | None = None,
        reduction: str = "mean",
        detach_target: bool = True,
        *,
        grad_mode: str = "dense",
    ) -> "SPFAutoencoder":
        """Takes over the weights of a loop over encoders and decoders, one pair a map.

        Args:
            encoders: `nn.Linear(pixels, code_size)`, one a map.
            decoders: `nn.Linear(code_size, pixels)`, one a map.
            activation: What the loop applies after each encoder.
            decoder_activation: What it applies after each decoder.
            map_size: (height, width); may be left out for square maps.
            reduction: Of the loss.
            detach_target: Whether the loss takes the maps as a constant.
            grad_mode: "dense" or "factored".

        Raises:
            ValueError: No layers, layers that differ, or encoders and decoders that do not fit each other.
            TypeError: Something that is not an nn.Linear.
        """
        encoder = SPFFlatten.from_linears(encoders, activation, map_size, grad_mode=grad_mode)
        first = check_linears("decoders", decoders)
        shape = (len(decoders), first.in_features, first.out_features)
        if shape != tuple(encoder.weight.shape):
            raise ValueError(
                f"decoders must undo the encoders' (maps, code size, pixels) {tuple(encoder.weight.shape)}, got {shape}"
            )
        sizes = (encoder.num_maps, encoder.map_size, encoder.code_size)
        module = cls(
            *sizes, activation, decoder_activation, True, reduction, detach_target, "meta", grad_mode=grad_mode
        )
        module.encoder = encoder
        like = (first.bias is not None, first.weight.device, first.weight.dtype)
        module.decoder = SPFDecoder(*sizes, decoder_activation, *like, grad_mode=grad_mode)
        load_linears(module.decoder.weight, module.decoder.bias, decoders, transpose=True)
        return module

    def to_linears(self) -> tuple[list[nn.Linear], list[nn.Linear]]:
        """The way back: encoders and decoders, one pair a map, with copies of the weights."""
        return self.encoder.to_linears(), self.decoder._to_linears(transpose=True)
