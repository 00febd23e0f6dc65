"""What all pre-trained networks have in common."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

# What to do without the network that pre-trained weights come from.
OFFLINE_ADVICE = (
    "pass --extractor.pretrained false to start from random weights, name a file of timm's format "
    "(--extractor.backbone_weights '{resnet50: resnet50.safetensors}'), or take the backbone whose weights come with a "
    "package (--extractor.backbones '[efficientnet-lite0-imagenet]')"
)


class Backbone(nn.Module):
    """A network without its classifier that returns several of its layers.

    Attributes:
        channels: Of each feature map that it returns.
        frozen: Whether weights and statistics stay as they are.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, network: nn.Module, channels: Sequence[int], mean: Sequence[float], std: Sequence[float]
    ) -> None:
        """Wrap a network.

        Args:
            network: From images to a list of feature maps.
            channels: Of each of them.
            mean: What its weights expect to be subtracted from each channel of an image in [0, 1].
            std: What they expect it to be divided by after that.
        """
        super().__init__()
        self.network = network
        self.channels = tuple(channels)
        self.frozen = False
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Extract features.

        Args:
            images: (B, 1 or 3, H, W) in [0, 1]. One channel is repeated where the network has three, three are averaged
                where it has one.

        Returns:
            (B, channels, H / stride, W / stride) for each stride, from fine to coarse.
        """
        if len(self.mean) == 1:
            images = images.mean(dim=1, keepdim=True)
        features: list[Tensor] = self.network((images - self.mean) / self.std)
        return features

    def freeze(self) -> "Backbone":
        """Weights get no gradient, and normalisation keeps its statistics in training too."""
        self.frozen = True
        return self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Backbone":
        """Training or evaluation mode; frozen, it is always the latter."""
        return super().train(mode and not self.frozen)


def pick_strides(name: str, strides: Sequence[int], layers: Mapping[int, Any]) -> list[Any]:
    """The layers of the wanted strides.

    Args:
        name: Of the network, for the message.
        strides: From fine to coarse.
        layers: What there is for each stride.

    Raises:
        ValueError: If there is none of a stride, or they are not from fine to coarse.
    """
    missing = [stride for stride in strides if stride not in layers]
    if missing or not strides:
        raise ValueError(f"strides of {name} must be among {sorted(layers)}, got {tuple(strides)}")
    if list(strides) != sorted(set(strides)):
        raise ValueError(f"strides must grow, got {tuple(strides)}")
    return [layers[stride] for stride in strides]


def require(package: str, extra: str) -> Any:
    """Import a package that only some backbones need.

    Raises:
        ModuleNotFoundError: If it is missing, with the command that installs it.
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        message = f"this backbone needs {package}: pip install 'spf-kernels[{extra}]'"
        raise ModuleNotFoundError(message, name=package) from error
