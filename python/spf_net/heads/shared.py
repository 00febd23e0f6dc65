"""The SPF paper's other reading: one auto-encoder for all maps."""

from spf_net.heads.base import HeadConfig
from spf_net.heads.codes import CodeHead, build_flatten


class SharedAutoencoderHead(CodeHead):
    """Every map through the same auto-encoder, the codes concatenated; the paper does not say which it means.

    The maps of all images are one batch for it. Its gradients are always dense: the factors of so large a batch would
    be larger than the weight.

    Attributes:
        features: C * D.
    """

    def __init__(self, config: HeadConfig, num_maps: int, map_size: tuple[int, int]) -> None:
        super().__init__(build_flatten(config, 1, map_size), num_maps, map_size)
