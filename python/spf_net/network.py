"""The whole network: extractor, lung frame, head, one dense layer."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from spf_net.extractor import ExtractorConfig, build_extractor
from spf_net.heads import GradMode, HeadConfig, build_head
from spf_net.lung_frame import FrameConfig, resample
from spf_net.lung_regressor import LungRegressor


class NetworkOutput(NamedTuple):
    """What the network returns.

    Attributes:
        logits: (B, L); sigmoid(logits) are the probabilities of the labels.
        loss: (), the head's own loss (of the reconstruction) before its weight.
    """

    logits: Tensor
    loss: Tensor


class SPFNetwork(nn.Module):
    """Extractor, head and a dense layer with one output a label (SPF paper, figure 3), and the lung frame of the maps.

    Attributes:
        extractor: From images to maps.
        frame: Which part of the image fills the maps that the head sees.
        lung_regressor: Sees the lungs where the frame is "predicted", frozen; none otherwise.
        head: From maps to features.
        classifier: From features to logits.
    """

    lung_regressor: LungRegressor | None

    def __init__(
        self,
        extractor: ExtractorConfig,
        head: HeadConfig,
        channels: int,
        image_size: int,
        num_labels: int,
        grad_mode: GradMode = "dense",
        frame: FrameConfig | None = None,
    ) -> None:
        """Build the layers, the extractor first: with one seed it starts alike whatever the head.

        Args:
            extractor: Of the feature maps.
            head: What flattens them.
            channels: Of the images.
            image_size: Height and width of the images.
            num_labels: L.
            grad_mode: Of the spf head's weights: "dense", or "factored", exact without a gradient of their size.
            frame: Of the maps; none for the whole image. The regressor of a predicted one has still to be loaded, by
                `lung_regressor.load_state_dict`, say.

        Raises:
            ValueError: If sizes do not fit together.
        """
        super().__init__()
        self.extractor = build_extractor(extractor, channels, image_size)
        self.head = build_head(head, self.extractor.num_maps, self.extractor.map_size, grad_mode)
        self.classifier = nn.Linear(self.head.features, num_labels)
        self.frame = frame or FrameConfig()
        self.lung_regressor = None
        if self.frame.source == "predicted":
            # Last, so that the other layers start alike with and without it.
            self.lung_regressor = LungRegressor(channels).requires_grad_(False)

    def forward(self, images: Tensor, lungs: Tensor | None = None) -> NetworkOutput:
        """Classify images.

        Args:
            images: (B, channels, H, W) in [0, 1].
            lungs: (B, 2, 4) boxes of right and left lung, see `maps`.

        Raises:
            ValueError: If the frame needs boxes and there are none.
        """
        features, loss = self.head(self.maps(images, lungs))
        return NetworkOutput(self.classifier(features), loss)

    def maps(self, images: Tensor, lungs: Tensor | None = None) -> Tensor:
        """The maps that the head sees, in the lung frame if there is one.

        Args:
            images: (B, channels, H, W) in [0, 1].
            lungs: (B, 2, 4) boxes (x, y, width, height) of the patient's right and left lung as shares of the image's
                side, NaN where not known: read by the frame "lungs" alone.

        Returns:
            (B, C, H, W).

        Raises:
            ValueError: If the frame is "lungs" and `lungs` is None.
        """
        maps: Tensor = self.extractor(images)
        if self.lung_regressor is not None:
            return resample(maps, self.lung_regressor(images), self.frame.margin)
        if self.frame.source == "image":
            return maps
        if lungs is None:
            raise ValueError("lungs must be boxes (B, 2, 4), NaN where not known, for the frame 'lungs', got None")
        return resample(maps, lungs, self.frame.margin)


def build_network(
    extractor: ExtractorConfig,
    head: HeadConfig,
    channels: int,
    image_size: int,
    num_labels: int,
    seed: int,
    grad_mode: GradMode = "dense",
    frame: FrameConfig | None = None,
) -> SPFNetwork:
    """A network whose weights follow from `seed`; the global random state stays as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return SPFNetwork(extractor, head, channels, image_size, num_labels, grad_mode, frame)


def count_parameters(network: nn.Module) -> int:
    """Number of trainable parameters, all layers together."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
