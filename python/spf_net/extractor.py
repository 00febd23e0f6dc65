"""The convolutional feature extractor: from an image to C feature maps."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

PaddingMode = Literal["zeros", "circular", "reflect"]


@dataclass(frozen=True)
class ExtractorConfig:
    """What turns an image into feature maps.

    Attributes:
        name: "convolutional", or "none": the image's channels are the maps (the phantom's mode "maps").
        widths: Channels of each stage; a 2x2 max-pool lies between two stages.
        num_maps: C, the number of feature maps handed to the head. Ignored by "none".
        downsample: Image pixels per map pixel along each axis, 2 ** (stages - 1) times the stride of the first
            convolution. For "none": maps are averaged over this many pixels along each axis.
        dilations: Of the convolutions of a block, one after the other.
        padding_mode: What convolutions see beyond the border. Zeros tell a network where the border is; "circular"
            makes it blind to position (equivariant to rolls).
        dropout: Chance that a whole map is dropped after a block (spatial dropout).
    """

    name: Literal["convolutional", "none"] = "convolutional"
    widths: tuple[int, ...] = (32, 64, 128)
    num_maps: int = 128
    downsample: int = 8
    dilations: tuple[int, ...] = (1, 2)
    padding_mode: PaddingMode = "zeros"
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"widths must be one or more positive integers, got {self.widths}")
        if not self.dilations or min(self.dilations) < 1:
            raise ValueError(f"dilations must be one or more positive integers, got {self.dilations}")
        if self.num_maps < 1:
            raise ValueError(f"num_maps must be positive, got {self.num_maps}")
        if self.downsample < 1:
            raise ValueError(f"downsample must be positive, got {self.downsample}")
        if self.name == "convolutional" and self.downsample % 2 ** (len(self.widths) - 1):
            raise ValueError(
                f"downsample must be a multiple of {2 ** (len(self.widths) - 1)} for {len(self.widths)} stages, "
                f"got {self.downsample}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")


def _group_norm(channels: int) -> nn.GroupNorm:
    """Up to 8 groups: GroupNorm does not depend on the batch, which is small for large images."""
    groups = next(groups for groups in (8, 4, 2, 1) if channels % groups == 0)
    return nn.GroupNorm(groups, channels)


class DilatedBlock(nn.Module):
    """3x3 convolutions of growing dilation, with a skip connection around them and spatial dropout after them."""

    def __init__(self, inputs: int, outputs: int, config: ExtractorConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index, dilation in enumerate(config.dilations):
            layers += [
                nn.Conv2d(
                    inputs if index == 0 else outputs,
                    outputs,
                    kernel_size=3,
                    padding=dilation,
                    dilation=dilation,
                    padding_mode=config.padding_mode,
                    bias=False,
                ),
                _group_norm(outputs),
                nn.ReLU(),
            ]
        # The last activation comes after the sum.
        self.convolutions = nn.Sequential(*layers[:-1])
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, kernel_size=1, bias=False)
        self.dropout = nn.Dropout2d(config.dropout)

    def forward(self, features: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H, W)."""
        dropped: Tensor = self.dropout(functional.relu(self.convolutions(features) + self.skip(features)))
        return dropped


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
        stride = config.downsample // 2 ** (len(config.widths) - 1)
        first = config.widths[0]
        layers: list[nn.Module] = [
            nn.Conv2d(channels, first, 2 * stride + 1, stride, stride, padding_mode=config.padding_mode, bias=False),
            _group_norm(first),
            nn.ReLU(),
        ]
        for index, width in enumerate(config.widths):
            if index > 0:
                layers.append(nn.MaxPool2d(2))
            layers.append(DilatedBlock(config.widths[max(index - 1, 0)], width, config))
        layers += [
            nn.Conv2d(config.widths[-1], config.num_maps, kernel_size=1),
            # Not normalised: how much of a feature an image has is what pooling heads read.
            nn.ReLU(),
        ]
        self.layers = nn.Sequential(*layers)

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


def build_extractor(config: ExtractorConfig, channels: int, image_size: int) -> Extractor | NoExtractor:
    """The extractor that `config` describes, for images (channels, image_size, image_size).

    Raises:
        ValueError: If the image size is not a multiple of `config.downsample`.
    """
    return (NoExtractor if config.name == "none" else Extractor)(config, channels, image_size)


def _map_size(config: ExtractorConfig, image_size: int) -> tuple[int, int]:
    if image_size % config.downsample:
        raise ValueError(f"image_size must be a multiple of downsample ({config.downsample}), got {image_size}")
    return (image_size // config.downsample,) * 2
