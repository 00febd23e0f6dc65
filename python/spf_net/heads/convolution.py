"""What one usually builds: a small convolution, pooling, flattening."""

from torch import Tensor, nn
from torch.nn import functional

from spf_kernels.initialization import grid_size
from spf_net.heads.base import Head, HeadConfig, HeadEvidence, Split, weigh
from spf_net.heads.pooling import spread


class ConvolutionHead(Head):
    """A 3x3 convolution from C maps to C, ReLU, averages over a grid, then plain flattening.

    The grid has as many cells as fit into D, so that there are about as many features as the spf head has: 11x11 for
    D = 128, 15,488 features of 128 maps. Kernel and channels are the smallest usual choice.

    Attributes:
        features: C * rows * columns of the grid.
    """

    def __init__(self, config: HeadConfig, num_maps: int, map_size: tuple[int, int]) -> None:
        rows, columns = grid_size(map_size, config.code_size)
        super().__init__(num_maps, map_size, num_maps * rows * columns)
        self.grid = (rows, columns)
        self.convolution = nn.Conv2d(num_maps, num_maps, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(self.grid)

    def flatten_maps(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, features)."""
        features: Tensor = self.pool(functional.relu(self.convolution(maps))).flatten(1)
        return features

    def split(self, maps: Tensor) -> Split:
        """ReLU is a gate of 0 or 1, so a pixel's coefficient comes back through pool, gate and convolution.

        The border's zeros have no share; the convolution's bias makes the bias share.
        """
        weight, bias = (parameter.to(maps.dtype) for parameter in self.convolution.parameters())
        gate = (functional.conv2d(maps, weight, bias, padding=1) > 0).to(maps.dtype).unsqueeze(1)

        def split_rows(rows: Tensor) -> HeadEvidence:
            gated = gate * spread(rows.unflatten(1, (self.num_maps, *self.grid)), self.map_size)
            coefficients = functional.conv_transpose2d(gated.flatten(0, 1), weight, padding=1).view_as(gated)
            return HeadEvidence(weigh(coefficients, maps), gated.sum((3, 4)) @ bias)

        return split_rows
