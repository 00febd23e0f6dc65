"""Heads: how C feature maps become one vector for the classifier."""

from collections.abc import Callable

from spf_net.heads.base import (
    Activation,
    GradMode,
    Head,
    HeadConfig,
    HeadEvidence,
    HeadName,
    HeadOutput,
    Init,
)
from spf_net.heads.convolution import ConvolutionHead
from spf_net.heads.dct import DCTHead
from spf_net.heads.flatten import FlattenHead
from spf_net.heads.pooling import AdaptiveFlattenHead, AveragePoolingHead
from spf_net.heads.shared import SharedAutoencoderHead
from spf_net.heads.spf import SPFHead
from spf_net.heads.square import ProjectedSquarePoolingHead, SquarePoolingHead

HEADS: dict[HeadName, Callable[[HeadConfig, int, tuple[int, int]], Head]] = {
    "spf": SPFHead,
    "shared_autoencoder": SharedAutoencoderHead,
    "average_pooling": AveragePoolingHead,
    "square_pooling": SquarePoolingHead,
    "square_pooling_projected": ProjectedSquarePoolingHead,
    "adaptive_flatten": AdaptiveFlattenHead,
    "flatten": FlattenHead,
    "dct": DCTHead,
    "convolution": ConvolutionHead,
}
# What the demo compares.
DEMO_HEADS: tuple[HeadName, ...] = ("spf", "square_pooling", "average_pooling", "adaptive_flatten")


def build_head(config: HeadConfig, num_maps: int, map_size: tuple[int, int], grad_mode: GradMode = "dense") -> Head:
    """The head that `config` names, for maps (B, num_maps, *map_size).

    Args:
        config: Name and settings.
        num_maps: C.
        map_size: Height and width of the maps.
        grad_mode: spf: how the backward leaves the gradients of its weights, see `spf_kernels.functional`.

    Raises:
        ValueError: If the name or the grad_mode is unknown, the grid is finer than the maps or a code of cosine
            coefficients longer than they have pixels.
    """
    if config.name not in HEADS:
        raise ValueError(f"name must be one of {tuple(HEADS)}, got {config.name!r}")
    if config.name == "spf":
        return SPFHead(config, num_maps, map_size, grad_mode)
    return HEADS[config.name](config, num_maps, map_size)


__all__ = [
    "DEMO_HEADS",
    "HEADS",
    "Activation",
    "AdaptiveFlattenHead",
    "AveragePoolingHead",
    "ConvolutionHead",
    "DCTHead",
    "FlattenHead",
    "GradMode",
    "Head",
    "HeadConfig",
    "HeadEvidence",
    "HeadName",
    "HeadOutput",
    "Init",
    "ProjectedSquarePoolingHead",
    "SPFHead",
    "SharedAutoencoderHead",
    "SquarePoolingHead",
    "build_head",
]
