"""What the heads have in common whose features are linear codes of each map, with or without an activation."""

import torch
from torch import Tensor

from spf_kernels import SPFAutoencoder, SPFFlatten
from spf_kernels.functional import spf_flatten, spf_reconstruct
from spf_net.heads.base import GradMode, Head, HeadConfig, HeadEvidence, HeadOutput, Split, weigh


class CodeHead(Head):
    """Codes of each map, concatenated, by one encoder a map or by one for all maps.

    Attributes:
        features: C * D.
        flatten: The encoders, and the decoders if there are any; for one map where all maps share them.
    """

    def __init__(self, flatten: SPFFlatten | SPFAutoencoder, num_maps: int, map_size: tuple[int, int]) -> None:
        encoder = flatten.encoder if isinstance(flatten, SPFAutoencoder) else flatten
        super().__init__(num_maps, map_size, num_maps * encoder.code_size)
        self.flatten = flatten

    @property
    def encoder(self) -> SPFFlatten:
        """The encoders."""
        return self.flatten.encoder if isinstance(self.flatten, SPFAutoencoder) else self.flatten

    def forward(self, maps: Tensor) -> HeadOutput:
        """(B, C, H, W) -> codes (B, C*D) and the reconstruction loss, 0 without decoders.

        Raises:
            ValueError: Maps of another shape.
        """
        if not isinstance(self.flatten, SPFAutoencoder):
            return super().forward(maps)
        self.check_maps(maps)
        codes, loss = self.flatten(self._by_encoder(maps))
        return HeadOutput(codes.view(maps.shape[0], self.features), loss)

    def flatten_maps(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> codes (B, C*D); no decoder runs.

        Raises:
            ValueError: Maps of another shape.
        """
        self.check_maps(maps)
        codes: Tensor = self.encoder(self._by_encoder(maps))
        return codes.view(maps.shape[0], self.features)

    def split(self, maps: Tensor) -> Split:
        """A logit is linear in the pixels once each code is its gate times its value before the activation.

        evidence_k[s] = sum over c of x[c, s] * (sum over d of V[k, c, d] gate[c, d] w[c, d, s]): the inner sum decodes
        the classifier's gated rows V by the encoders' weights w, all labels at once; the encoders' bias gets
        sum over c, d of V gate b.
        """
        weight, bias = self.encoder.weight, self.encoder.bias
        if self.encoder.shards is not None:
            raise ValueError("evidence must have the encoders of all maps, got a head whose maps are sharded")
        gate = self._gate(maps)

        def split_rows(rows: Tensor) -> HeadEvidence:
            gated = rows.unflatten(1, (self.num_maps, -1)) * gate
            images, labels = gated.shape[:2]
            coefficients = spf_reconstruct(self._by_encoder(gated.flatten(0, 1)), weight)
            coefficients = coefficients.view(images, labels, self.num_maps, *self.map_size)
            share = gated.new_zeros(images, labels) if bias is None else (gated * bias).sum((2, 3))
            return HeadEvidence(weigh(coefficients, maps), share.expand(maps.shape[0], labels))

        return split_rows

    def _gate(self, maps: Tensor) -> Tensor:
        """Code / value before the activation: (B, 1, C, D), or (1, 1, 1, 1) where it is 1 for all images."""
        encoder = self.encoder
        if encoder.activation is None:
            return maps.new_ones(1, 1, 1, 1)
        if encoder.activation == "sigmoid":
            raise ValueError(
                "evidence must have an activation that is 0 at 0, got 'sigmoid': 1/2 there, which no multiple of the "
                "pixels gives, so the logit has no exact split over them"
            )
        values = spf_flatten(self._by_encoder(maps), encoder.weight, encoder.bias)
        values = values.view(maps.shape[0], 1, self.num_maps, encoder.code_size)
        if encoder.activation == "relu":
            return (values > 0).to(values.dtype)
        # tanh(p) / p goes to 1
        return torch.where(values == 0, 1, values.tanh() / values)

    def _by_encoder(self, per_map: Tensor) -> Tensor:
        """(N, C, ...) as it is for C encoders, (N * C, 1, ...) for a shared one."""
        encoders = self.encoder.num_maps
        rows = per_map.shape[0] * (self.num_maps // encoders)
        return per_map.reshape(rows, encoders, *per_map.shape[2:])


def build_flatten(
    config: HeadConfig, encoders: int, map_size: tuple[int, int], grad_mode: GradMode = "dense"
) -> SPFFlatten | SPFAutoencoder:
    """Encoders, and decoders where their loss has a weight; frozen encoders take no gradient.

    Args:
        config: Settings.
        encoders: C, or 1 for one that all maps share.
        map_size: Height and width of the maps.
        grad_mode: See `spf_kernels.functional`.
    """
    sizes = (encoders, map_size, config.code_size, config.activation)
    flatten: SPFFlatten | SPFAutoencoder
    if config.reconstruction_weight == 0:
        flatten = encoder = SPFFlatten(*sizes, grad_mode=grad_mode, init=config.init)
    else:
        flatten = SPFAutoencoder(*sizes, detach_target=config.detach_target, grad_mode=grad_mode, init=config.init)
        encoder = flatten.encoder
    encoder.requires_grad_(not config.frozen)
    return flatten
