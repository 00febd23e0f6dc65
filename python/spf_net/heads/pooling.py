"""Averages of each map: over all of it, or over the cells of a grid."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from spf_net.heads.base import Head, HeadConfig, HeadEvidence, Split, weigh


class AveragePoolingHead(Head):
    """The mean of each map, blind to where anything is.

    Attributes:
        features: C.
    """

    def __init__(self, config: HeadConfig, num_maps: int, map_size: tuple[int, int]) -> None:  # noqa: ARG002
        super().__init__(num_maps, map_size, num_maps)

    def flatten_maps(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C)."""
        return maps.mean(dim=(2, 3))

    def split(self, maps: Tensor) -> Split:
        """A pixel's coefficient is the classifier's weight of its map / S (class activation mapping)."""
        pixels = maps.flatten(2)

        def split_rows(rows: Tensor) -> HeadEvidence:
            shares = (rows @ pixels / pixels.shape[2]).unflatten(2, self.map_size)
            return HeadEvidence(shares, maps.new_zeros(shares.shape[:2]))

        return split_rows


class AdaptiveFlattenHead(Head):
    """Each map averaged over a coarse grid, then plain flattening.

    Attributes:
        features: C * grid * grid.
    """

    def __init__(self, config: HeadConfig, num_maps: int, map_size: tuple[int, int]) -> None:
        if config.grid > min(map_size):
            raise ValueError(f"grid must not be finer than the maps {map_size}, got {config.grid}")
        super().__init__(num_maps, map_size, num_maps * config.grid**2)
        self.grid = (config.grid, config.grid)
        self.pool = nn.AdaptiveAvgPool2d(self.grid)

    def flatten_maps(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C * grid * grid)."""
        features: Tensor = self.pool(maps).flatten(1)
        return features

    def split(self, maps: Tensor) -> Split:
        """A pixel's coefficient is the sum over its cells of the classifier's weight / pixels of the cell."""

        def split_rows(rows: Tensor) -> HeadEvidence:
            cells = rows.unflatten(1, (self.num_maps, *self.grid))
            coefficients = spread(cells, self.map_size).unsqueeze(0)
            return HeadEvidence(weigh(coefficients, maps), maps.new_zeros(maps.shape[0], rows.shape[0]))

        return split_rows


def spread(cells: Tensor, map_size: tuple[int, int]) -> Tensor:
    """The transpose of adaptive average pooling: (..., rows, columns) -> (..., H, W)."""
    height, width = (
        functional.adaptive_avg_pool1d(torch.eye(pixels).to(cells).unsqueeze(0), count).squeeze(0)
        for pixels, count in zip(map_size, cells.shape[-2:], strict=True)
    )
    return height @ cells @ width.T
