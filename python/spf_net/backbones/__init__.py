"""Pre-trained networks as sources of feature maps: one tensor for each stride."""

from collections.abc import Sequence
from pathlib import Path

from spf_net.backbones.backbone import Backbone
from spf_net.backbones.efficientnet_lite0 import LITE0, lite0_backbone
from spf_net.backbones.timm_networks import timm_backbone
from spf_net.backbones.xray_densenet import XRAY_PREFIX, xray_backbone

__all__ = ["LITE0", "XRAY_PREFIX", "Backbone", "build_backbone"]


def build_backbone(
    name: str,
    strides: Sequence[int],
    *,
    pretrained: bool = True,
    weights: Path | None = None,
    frozen: bool = False,
) -> Backbone:
    """A network by name, up to the coarsest of its layers that are asked for.

    Args:
        name: Of a network of timm, "torchxrayvision:" and the name of DenseNet weights (densenet121-res224-all, say),
            or "efficientnet-lite0-imagenet".
        strides: Image pixels per pixel of each feature map that it returns, from fine to coarse.
        pretrained: Whether to load its weights; otherwise they are drawn from torch's global generator.
        weights: File of weights in timm's format, for a network of timm; none to download them.
        frozen: Whether weights and statistics stay as they are.

    Raises:
        ValueError: If the name is unknown, it has no layer of a stride, or a file of weights does not fit.
        OSError: If pre-trained weights can not be had.
        ModuleNotFoundError: If the package is missing that holds the network.
    """
    if weights is not None and (name == LITE0 or name.startswith(XRAY_PREFIX)):
        raise ValueError(f"weights must not be given for {name!r}, which has its own, got {str(weights)!r}")
    if name == LITE0:
        backbone = lite0_backbone(strides, pretrained)
    elif name.startswith(XRAY_PREFIX):
        backbone = xray_backbone(name.removeprefix(XRAY_PREFIX), strides, pretrained)
    else:
        backbone = timm_backbone(name, strides, pretrained, None if weights is None else {"file": _existing(weights)})
    return backbone.freeze() if frozen else backbone


def _existing(weights: Path) -> str:
    if not weights.is_file():
        raise FileNotFoundError(f"weights must be a file, got {str(weights)!r}")
    return str(weights)
