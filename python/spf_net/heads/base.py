"""What every head has: settings, output, and the exact split of a logit over the pixels of the maps."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

HeadName = Literal[
    "spf",
    "shared_autoencoder",
    "average_pooling",
    "square_pooling",
    "square_pooling_projected",
    "adaptive_flatten",
    "flatten",
    "dct",
    "convolution",
]
Activation = Literal["relu", "tanh", "sigmoid"]
GradMode = Literal["dense", "factored"]
Init = Literal["linear", "grid", "dct"]

# Evidence holds a coefficient for each pixel of each map, for several labels at once: at most this many, 128 MiB in
# float32, which is 64 labels of one image with 128 maps of 64x64.
CHUNK_ELEMENTS = 2**25


@dataclass(frozen=True)
class HeadConfig:
    """How feature maps are flattened.

    Attributes:
        name: "spf" (the paper's: an auto-encoder for each map), "shared_autoencoder" (one for all maps),
            "average_pooling", "square_pooling" (the paper's predecessor: the second moment of the maps),
            "square_pooling_projected" (its other reading: a 1x1 convolution, then the mean square),
            "adaptive_flatten" (averages over a grid), "flatten" (every pixel), "dct" (each map's lowest cosine
            coefficients, nothing trained) or "convolution" (3x3 convolution, ReLU, averages over a grid).
        code_size: spf, shared_autoencoder, dct: D, the numbers each map becomes. convolution: its grid has as nearly
            as many cells.
        activation: spf, shared_autoencoder: of the encoders; none leaves them linear.
        reconstruction_weight: spf, shared_autoencoder: weight of the auto-encoders' loss; 0 drops the decoders.
        detach_target: spf, shared_autoencoder: whether the reconstruction loss takes the maps as a constant.
        frozen: spf, shared_autoencoder: whether the encoders stay as initialised; decoders, if any, still learn.
        init: spf, shared_autoencoder: what encoders start from: "linear" (random, as nn.Linear), "grid" (averages over
            a grid) or "dct" (the lowest cosine coefficients).
        grid: adaptive_flatten: maps are averaged over a grid of this many cells along each axis; 11 makes about as many
            features as codes of 128.
        projections: square_pooling_projected: channels of its 1x1 convolution.
    """

    name: HeadName = "spf"
    code_size: int = 128
    activation: Activation | None = "relu"
    reconstruction_weight: float = 1.0
    detach_target: bool = True
    frozen: bool = False
    init: Init = "linear"
    grid: int = 4
    projections: int = 16384

    def __post_init__(self) -> None:
        for name in ("code_size", "grid", "projections"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not self.reconstruction_weight >= 0:
            raise ValueError(f"reconstruction_weight must not be negative, got {self.reconstruction_weight}")
        if self.frozen and self.name in ("square_pooling_projected", "convolution"):
            raise ValueError(f"frozen must be false for {self.name!r}, whose weights are no encoders, got true")


class HeadOutput(NamedTuple):
    """What a head returns.

    Attributes:
        features: (B, features), what the classifier reads.
        loss: (), the head's own loss before its weight; 0 where it has none.
    """

    features: Tensor
    loss: Tensor


class HeadEvidence(NamedTuple):
    """Logits split over the pixels of the maps: `maps.sum((2, 3)) + bias` is the logit without the classifier's bias.

    Attributes:
        maps: (B, L, H, W), float32 or float64.
        bias: (B, L), the share of what does not depend on any pixel.
    """

    maps: Tensor
    bias: Tensor


# The evidence of one image batch for the classifier's rows (K, features).
Split = Callable[[Tensor], HeadEvidence]


class Head(nn.Module, ABC):
    """C feature maps to one vector.

    Attributes:
        num_maps: C.
        map_size: Height and width of the maps.
        features: Length of the vector.
    """

    def __init__(self, num_maps: int, map_size: tuple[int, int], features: int) -> None:
        super().__init__()
        self.num_maps = num_maps
        self.map_size = map_size
        self.features = features

    def forward(self, maps: Tensor) -> HeadOutput:
        """(B, C, H, W) -> features (B, features) and the head's loss, 0 where it has none."""
        features = self.flatten_maps(maps)
        return HeadOutput(features, features.new_zeros(()))

    @abstractmethod
    def flatten_maps(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> the features (B, features) alone, without what only the head's loss needs."""

    @abstractmethod
    def split(self, maps: Tensor) -> Split:
        """What `evidence` calls with a few of the classifier's rows at a time, after it has checked the maps."""

    @torch.no_grad()
    def evidence(self, maps: Tensor, classifier: Tensor) -> HeadEvidence:
        """Which pixels of the maps make each logit (exact; for ReLU it is HiResCAM at the maps).

        Labels are taken in chunks: beside the result it takes memory for about 2 * max(CHUNK_ELEMENTS, elements of the
        maps) numbers, however many labels there are.

        Args:
            maps: (B, C, H, W); low precision is computed in float32.
            classifier: (L, features), the weight of the dense layer that reads the features.

        Returns:
            `maps.sum((2, 3)) + bias` is `features @ classifier.T` to float precision.

        Raises:
            ValueError: Shapes that do not fit the head, or features that have no such split; the message says why.
            TypeError: Integers.
        """
        self.check_maps(maps)
        if classifier.dim() != 2 or classifier.shape[1] != self.features:
            raise ValueError(f"classifier must have shape (labels, {self.features}), got {tuple(classifier.shape)}")
        for name, tensor in (("maps", maps), ("classifier", classifier)):
            if not tensor.is_floating_point():
                raise TypeError(f"{name} must be floating point, got {tensor.dtype}")
        dtype = torch.promote_types(torch.promote_types(maps.dtype, classifier.dtype), torch.float32)
        split = self.split(maps.to(dtype))
        labels = max(1, CHUNK_ELEMENTS // max(1, maps.numel()))
        parts = [split(rows) for rows in classifier.to(dtype).split(labels)]
        return HeadEvidence(torch.cat([part.maps for part in parts], 1), torch.cat([part.bias for part in parts], 1))

    def check_maps(self, maps: Tensor) -> None:
        """Raises ValueError for maps of another shape than (B, C, H, W)."""
        expected = (self.num_maps, *self.map_size)
        if maps.dim() != 4 or tuple(maps.shape[1:]) != expected:
            raise ValueError(f"maps must have shape {('batch', *expected)}, got {tuple(maps.shape)}")


def weigh(coefficients: Tensor, maps: Tensor) -> Tensor:
    """Sum over the maps of pixel times its coefficient.

    Args:
        coefficients: (B, K, C, H, W), or (1, K, C, H, W) for all images.
        maps: (B, C, H, W).

    Returns:
        (B, K, H, W).
    """
    total = maps.new_zeros(maps.shape[0], coefficients.shape[1], *maps.shape[2:])
    # One map at a time stays in the cache: six times as fast as a product and a sum, and without the product.
    for each, pixels in zip(coefficients.unbind(2), maps.unbind(1), strict=True):
        total.addcmul_(each, pixels.unsqueeze(1))
    return total
