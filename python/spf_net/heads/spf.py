"""The paper's head."""

from spf_net.heads.base import GradMode, HeadConfig
from spf_net.heads.codes import CodeHead, build_flatten


class SPFHead(CodeHead):
    """One auto-encoder a map, the codes concatenated (SPF paper, sections 2.1 and 2.2).

    Without the decoders (`reconstruction_weight` 0) or with frozen encoders it is what the auto-encoders' training must
    beat.

    Attributes:
        features: C * D.
    """

    def __init__(
        self, config: HeadConfig, num_maps: int, map_size: tuple[int, int], grad_mode: GradMode = "dense"
    ) -> None:
        super().__init__(build_flatten(config, num_maps, map_size, grad_mode), num_maps, map_size)
