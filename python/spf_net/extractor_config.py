"""Settings of the feature extractors."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

ExtractorName = Literal["convolutional", "pyramid", "none"]
PaddingMode = Literal["zeros", "circular", "reflect"]


@dataclass(frozen=True)
class ExtractorConfig:
    """What turns an image into feature maps.

    The SPF paper (section 2.2) names the parts of its extractor and not their sizes. Of "pyramid", the strides and
    channels of the pyramid, the channels and dilations of the blocks and where their max-pools lie are our choice.

    Raises:
        ValueError: If a value is out of its range, or settings of the extractor that is asked for do not fit together.

    Attributes:
        name: "convolutional", a small network; "pyramid", the paper's: pyramids of pre-trained networks, then a cascade
            of dilated blocks; or "none": the image's channels are the maps (the phantom's mode "maps").
        widths: Channels of each stage of dilated blocks; a 2x2 max-pool lies between two stages.
        num_maps: C, the number of feature maps handed to the head. Ignored by "none".
        downsample: Image pixels per map pixel along each axis. "convolutional": 2 ** (stages - 1) times the stride of
            its first convolution; "pyramid": the stride of what `maps_from` names; "none": maps are averaged over this
            many pixels along each axis.
        dilations: Of the convolutions of a block, one after the other.
        padding_mode: What convolutions see beyond the border. Zeros tell a network where the border is; "circular"
            makes it blind to position (equivariant to rolls). Pre-trained networks keep their own.
        dropout: Chance that a whole map is dropped after a block (spatial dropout).
        norm_groups: Groups of each GroupNorm, fewer where they do not divide the channels. 16 in what we know of the
            paper's earlier work.
        backbones: pyramid: pre-trained networks whose pyramids are joined: names of timm, "torchxrayvision:" and the
            name of DenseNet weights trained on X-rays, or "efficientnet-lite0-imagenet", whose weights load offline.
        pretrained: pyramid: start from pre-trained weights, downloaded where needed; false for random ones.
        backbone_weights: pyramid: files of weights for backbones of timm that are not to be downloaded, by their names.
        freeze_backbone: pyramid: the backbones keep the weights and statistics they start with.
        pyramid_strides: pyramid: image pixels per pixel of its levels, from fine to coarse; the cascade starts at the
            finest one.
        pyramid_channels: pyramid: channels of the levels of each backbone's pyramid.
        maps_from: pyramid: the layer that the maps are made from: "cascade", its end; "pyramid.8", the joined pyramids'
            level of stride 8; or "resnet50.8", that backbone's last layer of stride 8.
    """

    name: ExtractorName = "convolutional"
    widths: tuple[int, ...] = (32, 64, 128)
    num_maps: int = 128
    downsample: int = 8
    dilations: tuple[int, ...] = (1, 2)
    padding_mode: PaddingMode = "zeros"
    dropout: float = 0.1
    norm_groups: int = 8
    backbones: tuple[str, ...] = ("vgg16", "resnet50")
    pretrained: bool = True
    backbone_weights: dict[str, Path] = field(default_factory=dict)
    freeze_backbone: bool = False
    pyramid_strides: tuple[int, ...] = (2, 4, 8, 16, 32)
    pyramid_channels: int = 64
    maps_from: str = "cascade"

    def __post_init__(self) -> None:
        for name in ("widths", "dilations", "pyramid_strides"):
            if not getattr(self, name) or min(getattr(self, name)) < 1:
                raise ValueError(f"{name} must be one or more positive integers, got {getattr(self, name)}")
        for name in ("num_maps", "downsample", "norm_groups", "pyramid_channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        if self.name == "convolutional" and self.downsample % self.pooling:
            raise ValueError(
                f"downsample must be a multiple of {self.pooling} for {len(self.widths)} stages, got {self.downsample}"
            )
        if self.name == "pyramid":
            self._check_backbones()
            self._check_source()

    @property
    def pooling(self) -> int:
        """By how much the max-pools between the stages shrink an axis."""
        return int(2 ** (len(self.widths) - 1))

    @property
    def source(self) -> tuple[str, int]:
        """What `maps_from` names: "cascade", "pyramid" or a backbone, and its stride; 0 where it names none."""
        if self.maps_from == "cascade":
            return "cascade", self.pyramid_strides[0] * self.pooling
        name, _, stride = self.maps_from.rpartition(".")
        return name, int(stride) if stride.isdecimal() else 0

    def _check_backbones(self) -> None:
        if not self.backbones or len(set(self.backbones)) < len(self.backbones):
            raise ValueError(f"backbones must be one or more different networks, got {self.backbones}")
        if unknown := sorted(self.backbone_weights.keys() - set(self.backbones)):
            raise ValueError(f"backbone_weights must be of the backbones {self.backbones}, got {unknown}")
        if self.backbone_weights and not self.pretrained:
            raise ValueError("pretrained must be true for backbone_weights, got false")

    def _check_source(self) -> None:
        strides = self.pyramid_strides
        if strides != tuple(strides[0] * 2**level for level in range(len(strides))) or strides[0].bit_count() != 1:
            raise ValueError(f"pyramid_strides must be powers of two, each twice the one before, got {strides}")
        name, stride = self.source
        known = name in ("cascade", *self.backbones) and stride > 0
        if not known and not (name == "pyramid" and stride in strides):
            raise ValueError(
                "maps_from must be 'cascade', or 'pyramid' or a backbone and one of its strides "
                f"('pyramid.{strides[0]}', '{self.backbones[0]}.{strides[0]}'), got {self.maps_from!r}"
            )
        if self.downsample != stride:
            raise ValueError(f"downsample must be {stride}, the stride of {self.maps_from!r}, got {self.downsample}")
