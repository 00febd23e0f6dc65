"""The layers that the extractors share."""

import math

from torch import Tensor, nn
from torch.nn import functional

from spf_net.extractor_config import ExtractorConfig


def group_norm(channels: int, groups: int) -> nn.GroupNorm:
    """GroupNorm of up to `groups` groups: it does not depend on the batch, which is small for large images."""
    return nn.GroupNorm(math.gcd(groups, channels), channels)


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
                group_norm(outputs, config.norm_groups),
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


def cascade(inputs: int, config: ExtractorConfig) -> list[nn.Module]:
    """A dilated block for each of `config.widths`, with max-pools between them."""
    layers: list[nn.Module] = []
    for index, width in enumerate(config.widths):
        if index > 0:
            layers.append(nn.MaxPool2d(2))
        layers.append(DilatedBlock(inputs, width, config))
        inputs = width
    return layers


def to_maps(inputs: int, num_maps: int) -> list[nn.Module]:
    """From features to `num_maps` maps that are not negative."""
    # Not normalised: how much of a feature an image has is what pooling heads read.
    return [nn.Conv2d(inputs, num_maps, kernel_size=1), nn.ReLU()]
