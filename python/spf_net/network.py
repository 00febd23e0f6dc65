"""The whole network: extractor, head, one dense layer."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from spf_net.extractor import ExtractorConfig, build_extractor
from spf_net.heads import GradMode, HeadConfig, build_head


class NetworkOutput(NamedTuple):
    """What the network returns.

    Attributes:
        logits: (B, L); sigmoid(logits) are the probabilities of the labels.
        reconstruction_loss: (), the head's own loss before its weight.
    """

    logits: Tensor
    reconstruction_loss: Tensor


class Network(nn.Module):
    """Extractor, head and a dense layer with one output a label (SPF paper, figure 3)."""

    def __init__(
        self,
        extractor: ExtractorConfig,
        head: HeadConfig,
        channels: int,
        image_size: int,
        num_labels: int,
        grad_mode: GradMode = "dense",
    ) -> None:
        """Build the layers, the extractor first: with one seed it starts alike whatever the head.

        Args:
            extractor: Of the feature maps.
            head: What flattens them.
            channels: Of the images.
            image_size: Height and width of the images.
            num_labels: L.
            grad_mode: Of the spf head's weights: "dense", or "factored", exact without a gradient of their size.

        Raises:
            ValueError: If sizes do not fit together.
        """
        super().__init__()
        self.extractor = build_extractor(extractor, channels, image_size)
        self.head = build_head(head, self.extractor.num_maps, self.extractor.map_size, grad_mode)
        self.classifier = nn.Linear(self.head.features, num_labels)

    def forward(self, images: Tensor) -> NetworkOutput:
        """Classify images (B, channels, H, W) in [0, 1]."""
        features, loss = self.head(self.extractor(images))
        return NetworkOutput(self.classifier(features), loss)


def build_network(
    extractor: ExtractorConfig,
    head: HeadConfig,
    channels: int,
    image_size: int,
    num_labels: int,
    seed: int,
    grad_mode: GradMode = "dense",
) -> Network:
    """A network whose weights follow from `seed`; the global random state stays as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Network(extractor, head, channels, image_size, num_labels, grad_mode)


def count_parameters(network: nn.Module) -> int:
    """Number of trainable parameters, all layers together."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
