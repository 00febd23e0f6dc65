"""The feature extractors: from an image to C feature maps."""

from torch import Tensor, nn
from torch.nn import functional

from spf_net.blocks import cascade, group_norm, to_maps
from spf_net.extractor_config import ExtractorConfig, PaddingMode
from spf_net.pyramid import PyramidExtractor

__all__ = ["Extractor", "ExtractorConfig", "NoExtractor", "PaddingMode", "PyramidExtractor", "build_extractor"]


class Extractor(nn.Module):
    """A cascade of dilated blocks and max-pools (SPF paper, section 2.2, without its pre-trained pyramid).

    Attributes:
        num_maps: C.
        map_size: (H, W) of the maps.
    """

    def __init__(self, config: ExtractorConfig, channels: int, image_size: int) -> None:
        """Build the layers.

        Args:
            config: Sizes and padding.
            channels: Of the images.
            image_size: Height and width of the images, a multiple of `config.downsample`.

        Raises:
            ValueError: If the image size is not a multiple of `config.downsample`.
        """
        super().__init__()
        self.num_maps = config.num_maps
        self.map_size = _map_size(config, image_size)
        stride = config.downsample // config.pooling
        first = config.widths[0]
        self.layers = nn.Sequential(
            nn.Conv2d(channels, first, 2 * stride + 1, stride, stride, padding_mode=config.padding_mode, bias=False),
            group_norm(first, config.norm_groups),
            nn.ReLU(),
            *cascade(first, config),
            *to_maps(config.widths[-1], config.num_maps),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Extract feature maps.

        Args:
            images: (B, channels, H, W) in [0, 1].

        Returns:
            (B, C, H / downsample, W / downsample), not negative, contiguous.
        """
        # Radiographs are mostly mid-grey: centred and scaled, the first convolution starts with balanced outputs.
        maps: Tensor = self.layers((images - 0.5) * 4)
        return maps.contiguous()


class NoExtractor(nn.Module):
    """Hands the channels of the image on as maps, averaged over `downsample` x `downsample` pixels."""

    def __init__(self, config: ExtractorConfig, channels: int, image_size: int) -> None:
        super().__init__()
        self.num_maps = channels
        self.map_size = _map_size(config, image_size)
        self.downsample = config.downsample

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H / downsample, W / downsample)."""
        return functional.avg_pool2d(images, self.downsample)


def build_extractor(
    config: ExtractorConfig, channels: int, image_size: int
) -> Extractor | PyramidExtractor | NoExtractor:
    """The extractor that `config` describes, for images (channels, image_size, image_size).

    Raises:
        ValueError: If the image size or the number of channels does not fit, or a backbone is unknown.
        OSError: If pre-trained weights can not be had.
        ModuleNotFoundError: If a package is missing that a backbone needs.
    """
    if config.name == "pyramid":
        return PyramidExtractor(config, channels, image_size)
    return (NoExtractor if config.name == "none" else Extractor)(config, channels, image_size)


def _map_size(config: ExtractorConfig, image_size: int) -> tuple[int, int]:
    if image_size % config.downsample:
        raise ValueError(f"image_size must be a multiple of downsample ({config.downsample}), got {image_size}")
    return (image_size // config.downsample,) * 2
