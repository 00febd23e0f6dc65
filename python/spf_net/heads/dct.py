"""Codes that nobody trained."""

from spf_kernels import SPFFlatten
from spf_net.heads.base import HeadConfig
from spf_net.heads.codes import CodeHead


class DCTHead(CodeHead):
    """The lowest frequencies of each map's cosine transform (orthonormal DCT-II), which nothing trains.

    What learnt codes of the same size must beat. `activation` does not apply: the coefficients have either sign.

    Attributes:
        features: C * D.
    """

    def __init__(self, config: HeadConfig, num_maps: int, map_size: tuple[int, int]) -> None:
        pixels = map_size[0] * map_size[1]
        if config.code_size > pixels:
            raise ValueError(f"code_size must be at most the maps' {pixels} pixels, got {config.code_size}")
        flatten = SPFFlatten(1, map_size, config.code_size, bias=False, init="dct").requires_grad_(False)
        super().__init__(flatten, num_maps, map_size)
