"""Each logit as an exact sum over the pixels of the feature maps."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from spf_net.explain.readout import chosen_labels, logits_of_maps
from spf_net.network import SPFNetwork


class Evidence(NamedTuple):
    """Logits split over the pixels of the maps: `maps.sum((2, 3)) + bias` is `logits` to float precision.

    Attributes:
        maps: (B, K, H, W), what each pixel adds to the logit of each chosen label; H x W is the maps' size.
        bias: (B, K), what no pixel adds: the classifier's bias and the head's share.
        logits: (B, K), the network's.
    """

    maps: Tensor
    bias: Tensor
    logits: Tensor


@torch.no_grad()
def evidence(
    network: SPFNetwork, images: Tensor, labels: Sequence[int] | None = None, lungs: Tensor | None = None
) -> Evidence:
    """What in the feature maps makes each logit; no gradient is taken, all labels at once.

    The pixels are those of the MAPS that the head sees, in the lung frame if the network has one, not those of the
    image: each of them has seen as much of the image as the extractor's receptive field, often all of it. A bright spot
    says where in the maps the classifier found its reason, not that this part of the image alone would do.

    Args:
        network: In eval mode, since dropout would make its evidence that of a random network.
        images: (B, channels, H, W) in [0, 1].
        labels: Indices of K labels; none for all of them.
        lungs: (B, 2, 4), for a network with a lung frame of given boxes.

    Returns:
        Of the chosen labels, in their order. Autocast is off meanwhile: logits may differ a little from those under it.

    Raises:
        ValueError: A network in training mode, a label that does not exist, a head whose logits have no exact split
            (sigmoid codes) or images of another size.
    """
    if network.training:
        raise ValueError("network must be in eval mode, got training mode")
    weight, bias = network.classifier.weight, network.classifier.bias
    chosen = chosen_labels(labels, weight.shape[0])
    with torch.autocast(images.device.type, enabled=False):
        maps = network.maps(images, lungs)
        logits = logits_of_maps(network.head, network.classifier)(maps)
        shares = network.head.evidence(maps, weight[chosen])
    return Evidence(shares.maps, shares.bias + bias[chosen], logits[:, chosen])
