"""Backbones from timm."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from spf_net.backbones.backbone import OFFLINE_ADVICE, Backbone, pick_strides, require


def timm_backbone(name: str, strides: Sequence[int], pretrained: bool, source: dict[str, Any] | None) -> Backbone:
    """A network of timm.

    Args:
        name: As in `timm.list_models()`, also with the tag of its weights ("resnet50.tv_in1k").
        strides: Image pixels per pixel of each feature map, from fine to coarse.
        pretrained: Whether to load weights.
        source: Where they are instead of on a hub: {"file": path} or {"state_dict": tensors}, of the whole network.

    Raises:
        ValueError: If the name is unknown, it has no layer of a stride, or the weights in `source` do not fit.
        OSError: If pre-trained weights can not be downloaded.
        ModuleNotFoundError: If timm is missing.
    """
    timm = require("timm", "train")
    blueprint = _blueprint(timm, name)
    layers = {stride: index for index, stride in enumerate(blueprint.feature_info.reduction())}
    options: dict[str, Any] = {"features_only": True, "out_indices": pick_strides(name, strides, layers)}
    if not isinstance(blueprint, nn.ModuleDict):
        # EfficientNets and MobileNets keep all their layers otherwise, and what is unused has no gradient.
        options |= {"feature_cls": "list", "feature_cfg": {"flatten_sequential": True}}
    if not pretrained:
        network = timm.create_model(name, **options)
    elif source is not None:
        _check_fit(timm, name, source)
        network = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=source, **options)
    else:
        network = _download(timm, name, options)
    normalisation = blueprint.pretrained_cfg
    return Backbone(network, network.feature_info.channels(), normalisation["mean"], normalisation["std"])


def _blueprint(timm: Any, name: str) -> Any:
    """The network with all its layers and without memory for weights."""
    if not timm.is_model(name):
        raise ValueError(
            "backbone must be a network of timm (timm.list_models() names them), 'torchxrayvision:' and a name of "
            f"weights, or 'efficientnet-lite0-imagenet', got {name!r}"
        )
    try:
        with torch.device("meta"):
            blueprint = timm.create_model(name, features_only=True)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"backbone {name!r} can not be built for its features: {error}") from error
    if getattr(blueprint, "output_fmt", "NCHW") != "NCHW":
        raise ValueError(f"backbone must have feature maps (B, channels, H, W), got {name!r} of (B, H, W, channels)")
    return blueprint


def _check_fit(timm: Any, name: str, source: dict[str, Any]) -> None:
    # Of a network built for its features, timm loads what fits and leaves the rest random.
    try:
        timm.create_model(name, pretrained=True, pretrained_cfg_overlay=source)
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"weights must be those of timm's {name!r}, got others: {error}") from error


def _download(timm: Any, name: str, options: dict[str, Any]) -> Any:
    try:
        return timm.create_model(name, pretrained=True, **options)
    # Which class a failed download raises depends on the hub's client and its version.
    except Exception as error:
        raise OSError(f"no pre-trained weights for {name!r} ({error}): {OFFLINE_ADVICE}") from error
