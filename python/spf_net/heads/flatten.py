"""Plain flattening."""

from torch import Tensor

from spf_net.heads.base import Head, HeadConfig, HeadEvidence, Split, weigh


class FlattenHead(Head):
    """Every pixel of every map is a feature: a linear SPF head and its classifier are a factorisation of this one's.

    Attributes:
        features: C * H * W; 524,288 for 128 maps of 64x64.
    """

    def __init__(self, config: HeadConfig, num_maps: int, map_size: tuple[int, int]) -> None:  # noqa: ARG002
        super().__init__(num_maps, map_size, num_maps * map_size[0] * map_size[1])

    def flatten_maps(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C*H*W)."""
        return maps.flatten(1)

    def split(self, maps: Tensor) -> Split:
        """The classifier's weights are the pixels' coefficients."""

        def split_rows(rows: Tensor) -> HeadEvidence:
            coefficients = rows.unflatten(1, (self.num_maps, *self.map_size)).unsqueeze(0)
            return HeadEvidence(weigh(coefficients, maps), maps.new_zeros(maps.shape[0], rows.shape[0]))

        return split_rows
