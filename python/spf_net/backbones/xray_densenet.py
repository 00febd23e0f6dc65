"""DenseNets trained on chest X-rays, from torchxrayvision."""

import pickle
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from spf_net.backbones.backbone import OFFLINE_ADVICE, Backbone, pick_strides, require

XRAY_PREFIX = "torchxrayvision:"
# Image pixels per pixel, and which layer of the network is the last of that size and how many channels it has.
_LAYERS = {
    2: ("relu0", 64),
    4: ("denseblock1", 256),
    8: ("denseblock2", 512),
    16: ("denseblock3", 1024),
    32: ("norm5", 1024),
}
# All that a pickled DenseNet of torchxrayvision is made of; none of it runs anything else.
_LAYER_CLASSES = {
    "torch.nn.modules.activation": {"ReLU"},
    "torch.nn.modules.batchnorm": {"BatchNorm2d"},
    "torch.nn.modules.container": {"Sequential"},
    "torch.nn.modules.conv": {"Conv2d"},
    "torch.nn.modules.linear": {"Linear"},
    "torch.nn.modules.pooling": {"AvgPool2d", "MaxPool2d"},
    "torchxrayvision.models": {"DenseNet", "_DenseBlock", "_DenseLayer", "_Transition"},
    "torch._utils": {"_rebuild_parameter", "_rebuild_tensor_v2"},
    # Of modules that an old PyTorch saved.
    "torch.nn.backends.thnn": {"_get_thnn_function_backend"},
    "collections": {"OrderedDict"},
    "builtins": {"set"},
    "__builtin__": {"set"},
}


class _LayersOnly(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if global_name not in _LAYER_CLASSES.get(module_name, ()):
            raise pickle.UnpicklingError(f"{module_name}.{global_name} is no layer of a DenseNet")
        return super().find_class(module_name, global_name)


# What `torch.load` needs of the module pickle.
_LAYERS_ONLY = SimpleNamespace(
    __name__="layers_only",
    Unpickler=_LayersOnly,
    load=lambda file, **options: _LayersOnly(file, **options).load(),
)


class _Stages(nn.Module):
    """The layers of a DenseNet, some of whose outputs are returned."""

    def __init__(self, features: nn.Sequential, returned: Sequence[str]) -> None:
        super().__init__()
        self.returned = tuple(returned)
        names = [name for name, _ in features.named_children()]
        self.layers = features[: names.index(self.returned[-1]) + 1]

    def forward(self, images: Tensor) -> list[Tensor]:
        outputs = []
        for name, layer in self.layers.named_children():
            images = layer(images)
            if name in self.returned:
                outputs.append(images)
        return outputs


def xray_backbone(weights: str, strides: Sequence[int], pretrained: bool) -> Backbone:
    """A DenseNet-121 of torchxrayvision, trained on chest X-rays of 224x224.

    Args:
        weights: Their name there, "densenet121-res224-all" for those trained on most data.
        strides: Image pixels per pixel of each feature map, from fine to coarse, among 2, 4, 8, 16, 32.
        pretrained: Whether to load them, downloaded once into torchxrayvision's cache.

    Raises:
        ValueError: If there are no such weights, it has no layer of a stride, or the file holds something else.
        OSError: If the weights can not be downloaded.
        ModuleNotFoundError: If torchxrayvision is missing.
    """
    layers = pick_strides(XRAY_PREFIX + weights, strides, _LAYERS)
    models = require("torchxrayvision", "xrv").models
    known = sorted(name for name in models.model_urls if name.startswith("densenet"))
    if weights not in known:
        raise ValueError(f"weights of torchxrayvision must be one of {known}, got {weights!r}")
    network = models.DenseNet(weights=None)
    if pretrained:
        network.features.load_state_dict(load_features(_download(models.model_urls[weights]["weights_url"])))
    stages = _Stages(network.features, [name for name, _ in layers])
    # Its images are in [-1024, 1024].
    return Backbone(stages, [channels for _, channels in layers], mean=[0.5], std=[1 / 2048])


def load_features(path: Path) -> dict[str, Tensor]:
    """The weights of the convolutional part of a pickled DenseNet.

    The files are whole networks, some in PyTorch's format before 1.6, which `torch.load(weights_only=True)` refuses:
    they are read by an unpickler that makes layers and tensors and nothing else.

    Raises:
        ValueError: If there is anything else in the file.
    """
    try:
        network = torch.load(path, map_location="cpu", weights_only=False, pickle_module=_LAYERS_ONLY)
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path} must hold a DenseNet of torchxrayvision, got something else: {error}") from error
    if not isinstance(network, require("torchxrayvision", "xrv").models.DenseNet):
        raise ValueError(f"{path} must hold a DenseNet of torchxrayvision, got {type(network).__name__}")
    weights: dict[str, Tensor] = network.features.state_dict()
    return weights


def _download(url: str) -> Path:
    """The file behind `url`, in torchxrayvision's cache."""
    folder = Path(require("torchxrayvision", "xrv").utils.get_cache_dir()).expanduser()
    path = folder / Path(url).name
    if not path.is_file():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Into a temporary file first, so other processes never see half of it.
            torch.hub.download_url_to_file(url, str(path), progress=False)
        except OSError as error:
            raise OSError(
                f"no pre-trained weights ({error}): save {url} as {path} from elsewhere, or {OFFLINE_ADVICE}"
            ) from error
    return path
