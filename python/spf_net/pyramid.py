"""The SPF paper's extractor: joined pyramids of pre-trained networks, then a cascade of dilated blocks."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from spf_net.backbones import build_backbone
from spf_net.blocks import cascade, group_norm, to_maps
from spf_net.extractor_config import ExtractorConfig


class FeaturePyramid(nn.Module):
    """The finest level of a feature pyramid network, to which all coarser levels have been added.

    The lateral 1x1 convolutions are normalised: the layers of VGG16 differ in scale by orders of magnitude.
    """

    def __init__(self, channels: Sequence[int], config: ExtractorConfig) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inputs, config.pyramid_channels, kernel_size=1, bias=False),
                group_norm(config.pyramid_channels, config.norm_groups),
            )
            for inputs in channels
        )

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        """Join the levels.

        Args:
            stages: (B, channels, H / 2**level, W / 2**level) each, from fine to coarse.

        Returns:
            (B, pyramid_channels, H, W).
        """
        laterals = [lateral(stage) for lateral, stage in zip(self.laterals, stages, strict=True)]
        level: Tensor
        level, *finer = reversed(laterals)
        for lateral in finer:
            level = lateral + functional.interpolate(level, scale_factor=2.0)
        return level


class PyramidExtractor(nn.Module):
    """Pyramids of pre-trained networks, joined; a cascade of dilated blocks; C maps (SPF paper, section 2.2).

    Only what leads to `config.maps_from` is built.

    Attributes:
        num_maps: C.
        map_size: (H, W) of the maps.
        backbones: The pre-trained networks.
    """

    def __init__(self, config: ExtractorConfig, channels: int, image_size: int) -> None:
        """Build the layers.

        Args:
            config: Of the name "pyramid".
            channels: Of the images, 1 or 3.
            image_size: Height and width of the images, a multiple of the coarsest stride that is used.

        Raises:
            ValueError: If the image size or the number of channels does not fit, or a backbone is unknown.
            OSError: If pre-trained weights can not be had.
            ModuleNotFoundError: If a package is missing that a backbone needs.
        """
        super().__init__()
        source, stride = config.source
        joined = source in ("cascade", "pyramid")
        finest = stride if source == "pyramid" else config.pyramid_strides[0]
        strides = tuple(level for level in config.pyramid_strides if level >= finest) if joined else (stride,)
        if channels not in (1, 3):
            raise ValueError(f"channels must be 1 or 3 for pre-trained networks, got {channels}")
        if image_size % strides[-1]:
            raise ValueError(f"image_size must be a multiple of the coarsest stride ({strides[-1]}), got {image_size}")
        self.num_maps = config.num_maps
        self.map_size = (image_size // stride,) * 2
        backbones = [
            build_backbone(
                name,
                strides,
                pretrained=config.pretrained,
                weights=config.backbone_weights.get(name),
                frozen=config.freeze_backbone,
            )
            for name in (config.backbones if joined else (source,))
        ]
        self.backbones = nn.ModuleList(backbones)
        self.pyramids = nn.ModuleList(FeaturePyramid(backbone.channels, config) for backbone in backbones if joined)
        features = config.pyramid_channels * len(backbones) if joined else backbones[0].channels[0]
        layers: list[nn.Module] = [] if joined else [group_norm(features, config.norm_groups)]
        if source == "cascade":
            layers, features = cascade(features, config), config.widths[-1]
        self.layers = nn.Sequential(*layers, *to_maps(features, config.num_maps))

    def forward(self, images: Tensor) -> Tensor:
        """Extract feature maps.

        Args:
            images: (B, 1 or 3, H, W) in [0, 1].

        Returns:
            (B, C, H / downsample, W / downsample), not negative, contiguous.
        """
        stages = [backbone(images) for backbone in self.backbones]
        if self.pyramids:
            levels = [pyramid(inputs) for pyramid, inputs in zip(self.pyramids, stages, strict=True)]
            features = torch.cat(levels, dim=1)
        else:
            features = stages[0][0]
        maps: Tensor = self.layers(features)
        return maps.contiguous()
