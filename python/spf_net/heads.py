"""Heads: how C feature maps become one vector for the classifier."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor, nn

from spf_kernels import SPFAutoencoder, SPFFlatten

HeadName = Literal["spf", "square_pooling", "average_pooling", "adaptive_flatten"]
Activation = Literal["relu", "tanh", "sigmoid"]
GradMode = Literal["dense", "factored"]


@dataclass(frozen=True)
class HeadConfig:
    """How feature maps are flattened.

    Attributes:
        name: "spf" (the paper's), "square_pooling" (its predecessor), "average_pooling" or "adaptive_flatten".
        code_size: spf: D, the numbers each map is encoded to.
        activation: spf: of the encoders; none leaves them linear.
        reconstruction_weight: spf: weight of the auto-encoders' loss; 0 drops the decoders.
        detach_target: spf: whether the reconstruction loss takes the maps as a constant.
        grid: adaptive_flatten: maps are averaged over a grid of this many cells along each axis.
    """

    name: HeadName = "spf"
    code_size: int = 128
    activation: Activation | None = "relu"
    reconstruction_weight: float = 1.0
    detach_target: bool = True
    grid: int = 4

    def __post_init__(self) -> None:
        if self.code_size < 1:
            raise ValueError(f"code_size must be positive, got {self.code_size}")
        if not self.reconstruction_weight >= 0:
            raise ValueError(f"reconstruction_weight must not be negative, got {self.reconstruction_weight}")
        if self.grid < 1:
            raise ValueError(f"grid must be positive, got {self.grid}")


class HeadOutput(NamedTuple):
    """What a head returns.

    Attributes:
        features: (B, features), what the classifier reads.
        loss: (), the head's own loss before its weight; 0 where it has none.
    """

    features: Tensor
    loss: Tensor


class SPFHead(nn.Module):
    """One auto-encoder a map, the codes concatenated (SPF paper, sections 2.1 and 2.2).

    Attributes:
        features: C * D.
    """

    def __init__(
        self, config: HeadConfig, num_maps: int, map_size: tuple[int, int], grad_mode: GradMode = "dense"
    ) -> None:
        super().__init__()
        self.features = num_maps * config.code_size
        self.flatten: SPFFlatten | SPFAutoencoder
        if config.reconstruction_weight == 0:
            self.flatten = SPFFlatten(num_maps, map_size, config.code_size, config.activation, grad_mode=grad_mode)
        else:
            self.flatten = SPFAutoencoder(
                num_maps,
                map_size,
                config.code_size,
                config.activation,
                detach_target=config.detach_target,
                grad_mode=grad_mode,
            )

    def forward(self, maps: Tensor) -> HeadOutput:
        """(B, C, H, W) -> codes (B, C*D) and the reconstruction loss."""
        if isinstance(self.flatten, SPFAutoencoder):
            codes, loss = self.flatten(maps)
        else:
            codes = self.flatten(maps)
            loss = codes.new_zeros(())
        return HeadOutput(codes, loss)


class SquarePoolingHead(nn.Module):
    """Global square pooling: the second moment X X^T / S of the maps, blind to where anything is.

    128 maps give the 16,384 numbers of the SPF paper's section 2.2. The moments are products of two maps and
    differ in size by orders of magnitude, so a LayerNorm without parameters puts each image's on one scale.

    Attributes:
        features: C * C.
    """

    def __init__(self, config: HeadConfig, num_maps: int, map_size: tuple[int, int]) -> None:  # noqa: ARG002
        super().__init__()
        self.features = num_maps * num_maps
        self.norm = nn.LayerNorm(self.features, elementwise_affine=False)

    def forward(self, maps: Tensor) -> HeadOutput:
        """(B, C, H, W) -> (B, C*C)."""
        pixels = maps.flatten(2)
        moments = pixels @ pixels.transpose(1, 2) / pixels.shape[2]
        features = self.norm(moments.flatten(1))
        return HeadOutput(features, features.new_zeros(()))


class AveragePoolingHead(nn.Module):
    """The mean of each map, blind to where anything is.

    Attributes:
        features: C.
    """

    def __init__(self, config: HeadConfig, num_maps: int, map_size: tuple[int, int]) -> None:  # noqa: ARG002
        super().__init__()
        self.features = num_maps

    def forward(self, maps: Tensor) -> HeadOutput:
        """(B, C, H, W) -> (B, C)."""
        features = maps.mean(dim=(2, 3))
        return HeadOutput(features, features.new_zeros(()))


class AdaptiveFlattenHead(nn.Module):
    """Each map averaged over a coarse grid, then plain flattening.

    Attributes:
        features: C * grid * grid.
    """

    def __init__(self, config: HeadConfig, num_maps: int, map_size: tuple[int, int]) -> None:
        super().__init__()
        if config.grid > min(map_size):
            raise ValueError(f"grid must not be finer than the maps {map_size}, got {config.grid}")
        self.features = num_maps * config.grid**2
        self.pool = nn.AdaptiveAvgPool2d(config.grid)

    def forward(self, maps: Tensor) -> HeadOutput:
        """(B, C, H, W) -> (B, C * grid * grid)."""
        features = self.pool(maps).flatten(1)
        return HeadOutput(features, features.new_zeros(()))


Head = SPFHead | SquarePoolingHead | AveragePoolingHead | AdaptiveFlattenHead

HEADS: dict[HeadName, Callable[[HeadConfig, int, tuple[int, int]], Head]] = {
    "spf": SPFHead,
    "square_pooling": SquarePoolingHead,
    "average_pooling": AveragePoolingHead,
    "adaptive_flatten": AdaptiveFlattenHead,
}


def build_head(config: HeadConfig, num_maps: int, map_size: tuple[int, int], grad_mode: GradMode = "dense") -> Head:
    """The head that `config` names, for maps (B, num_maps, *map_size).

    Args:
        config: Name and settings.
        num_maps: C.
        map_size: Height and width of the maps.
        grad_mode: spf: how the backward leaves the gradients of its weights, see `spf_kernels.functional`.

    Raises:
        ValueError: If the name or the grad_mode is unknown or the grid is finer than the maps.
    """
    if config.name not in HEADS:
        raise ValueError(f"name must be one of {tuple(HEADS)}, got {config.name!r}")
    if config.name == "spf":
        return SPFHead(config, num_maps, map_size, grad_mode)
    return HEADS[config.name](config, num_maps, map_size)
