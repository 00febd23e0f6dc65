"""Sizes of the extractors, what padding says about position, and which layer the maps come from."""

from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from spf_net.backbones import LITE0, build_backbone
from spf_net.config import parse_config
from spf_net.extractor import ExtractorConfig, NoExtractor, PaddingMode, PyramidExtractor, build_extractor
from spf_net.pyramid import FeaturePyramid
from torch import nn
from torch.nn import functional

SMALL = ("test_resnet", "mobilenetv3_small_050")


def images(channels: int = 1, size: int = 32, seed: int = 0) -> torch.Tensor:
    return torch.rand(2, channels, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("widths", "downsample", "size"), [((4,), 1, 8), ((4,), 4, 16), ((4, 8), 2, 16), ((4, 6, 8), 8, 32)]
)
def test_maps_have_the_promised_shape(widths: tuple[int, ...], downsample: int, size: int) -> None:
    config = ExtractorConfig(widths=widths, num_maps=5, downsample=downsample)
    extractor = build_extractor(config, 1, size)
    maps = extractor(images(size=size))
    assert extractor.map_size == (size // downsample,) * 2
    assert maps.shape == (2, extractor.num_maps, *extractor.map_size)
    assert maps.is_contiguous()
    assert maps.min() >= 0


def test_channels_last_images_give_contiguous_maps() -> None:
    extractor = build_extractor(ExtractorConfig(widths=(4,), num_maps=5, downsample=2), 1, 32)
    assert extractor(images().to(memory_format=torch.channels_last)).is_contiguous()


@pytest.mark.parametrize(("padding_mode", "equivariant"), [("circular", True), ("zeros", False), ("reflect", False)])
def test_only_circular_padding_is_blind_to_position(padding_mode: PaddingMode, equivariant: bool) -> None:
    config = ExtractorConfig(widths=(4, 8), num_maps=5, downsample=4, padding_mode=padding_mode, dilations=(1, 2))
    torch.manual_seed(0)
    extractor = build_extractor(config, 1, 32).double().eval()
    image = images().double()
    with torch.no_grad():
        maps, moved = extractor(image), extractor(image.roll(16, dims=3))
    assert torch.allclose(maps.roll(4, dims=3), moved, rtol=0, atol=1e-12) == equivariant


def test_none_averages_the_channels() -> None:
    extractor = build_extractor(ExtractorConfig(name="none", downsample=4), 3, 32)
    assert isinstance(extractor, NoExtractor)
    assert (extractor.num_maps, extractor.map_size) == (3, (8, 8))
    torch.testing.assert_close(extractor(images(3)), functional.avg_pool2d(images(3), 4))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"widths": ()}, "widths must be one or more positive integers"),
        ({"widths": (4, 0)}, "widths must be one or more positive integers"),
        ({"dilations": (0,)}, "dilations must be one or more positive integers"),
        ({"num_maps": 0}, "num_maps must be positive, got 0"),
        ({"downsample": 0}, "downsample must be positive, got 0"),
        ({"widths": (4, 4, 4), "downsample": 2}, "downsample must be a multiple of 4 for 3 stages, got 2"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ({"norm_groups": 0}, "norm_groups must be positive, got 0"),
        ({"name": "pyramid", "pyramid_channels": 0}, "pyramid_channels must be positive, got 0"),
        ({"name": "pyramid", "backbones": ()}, r"backbones must be one or more different networks, got \(\)"),
        ({"name": "pyramid", "backbones": ("vgg16", "vgg16")}, r"backbones must be one or more different networks"),
        (
            {"name": "pyramid", "backbone_weights": {"resnet18": Path("w")}},
            r"backbone_weights must be of the backbones \('vgg16', 'resnet50'\), got \['resnet18'\]",
        ),
        (
            {"name": "pyramid", "backbone_weights": {"vgg16": Path("w")}, "pretrained": False},
            "pretrained must be true for backbone_weights, got false",
        ),
        ({"name": "pyramid", "pyramid_strides": (2, 8)}, r"pyramid_strides must be powers of two, .*, got \(2, 8\)"),
        ({"name": "pyramid", "pyramid_strides": (3, 6)}, r"pyramid_strides must be powers of two, .*, got \(3, 6\)"),
        ({"name": "pyramid", "downsample": 4}, "downsample must be 8, the stride of 'cascade', got 4"),
        ({"name": "pyramid", "maps_from": "pyramid.4"}, "downsample must be 4, the stride of 'pyramid.4', got 8"),
        ({"name": "pyramid", "maps_from": "pyramid.64"}, "maps_from must be 'cascade', or .*, got 'pyramid.64'"),
        ({"name": "pyramid", "maps_from": "resnet50"}, "maps_from must be 'cascade', or .*, got 'resnet50'"),
        ({"name": "pyramid", "maps_from": "resnet50.x"}, "maps_from must be 'cascade', or .*, got 'resnet50.x'"),
        ({"name": "pyramid", "maps_from": "vgg11.8"}, "maps_from must be 'cascade', or .*, got 'vgg11.8'"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExtractorConfig(**settings)


@pytest.mark.parametrize("name", ["convolutional", "none"])
def test_an_image_size_that_does_not_divide_is_refused(name: Literal["convolutional", "none"]) -> None:
    with pytest.raises(ValueError, match=r"image_size must be a multiple of downsample \(8\), got 36"):
        build_extractor(ExtractorConfig(name=name), 1, 36)


def pyramid_config(**settings: Any) -> ExtractorConfig:
    small: dict[str, Any] = {"backbones": SMALL, "pyramid_channels": 16, "widths": (16, 24, 32), "num_maps": 5}
    return ExtractorConfig("pyramid", **(small | {"pretrained": False} | settings))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("maps_from", "stride"), [("cascade", 8), ("pyramid.2", 2), ("pyramid.16", 16), ("mobilenetv3_small_050.32", 32)]
)
def test_maps_come_from_any_layer_and_only_what_leads_there_is_built(
    maps_from: str, stride: int, channels: int
) -> None:
    extractor = build_extractor(pyramid_config(maps_from=maps_from, downsample=stride, dropout=0.0), channels, 64)
    maps = extractor(images(channels, 64))
    assert extractor.map_size == (64 // stride,) * 2
    assert maps.shape == (2, extractor.num_maps, *extractor.map_size) == (2, 5, *extractor.map_size)
    assert maps.is_contiguous()
    assert maps.min() >= 0
    maps.square().sum().backward()
    assert [name for name, value in extractor.named_parameters() if value.grad is None] == []


def test_a_layer_of_a_backbone_is_that_layer() -> None:
    torch.manual_seed(0)
    config = pyramid_config(maps_from="test_resnet.8", freeze_backbone=True)
    extractor = build_extractor(config, 1, 64)
    torch.manual_seed(0)
    layer = build_backbone("test_resnet", (8,), pretrained=False).eval()(images(size=64))[0]
    assert isinstance(extractor, PyramidExtractor)
    assert len(extractor.backbones) == 1
    torch.testing.assert_close(extractor(images(size=64)), extractor.layers(layer))


def test_the_finest_level_holds_all_coarser_ones() -> None:
    torch.manual_seed(0)
    pyramid = FeaturePyramid((3, 4, 5), pyramid_config())
    stages = [torch.rand(1, 3, 8, 8), torch.rand(1, 4, 4, 4), torch.rand(1, 5, 2, 2)]
    expected = [lateral(stage) for lateral, stage in zip(pyramid.laterals, stages, strict=True)]
    doubled = expected[1].repeat_interleave(2, 2).repeat_interleave(2, 3)
    quadrupled = expected[2].repeat_interleave(4, 2).repeat_interleave(4, 3)
    torch.testing.assert_close(pyramid(stages), expected[0] + doubled + quadrupled)


def test_group_norm_has_as_many_groups_as_asked_for_where_they_divide_the_channels() -> None:
    extractor = build_extractor(pyramid_config(norm_groups=16), 1, 64)
    layers = nn.ModuleList(module for name, module in extractor.named_children() if name != "backbones")
    norms = [module for module in layers.modules() if isinstance(module, nn.GroupNorm)]
    assert {(norm.num_groups, norm.num_channels) for norm in norms} == {(16, 16), (8, 24), (16, 32)}


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_backbones_do_not_learn_and_all_else_does(frozen: bool) -> None:
    extractor = build_extractor(pyramid_config(freeze_backbone=frozen), 1, 64).train()
    trainable = {name.split(".")[0] for name, value in extractor.named_parameters() if value.requires_grad}
    assert trainable == {"pyramids", "layers"} | (set() if frozen else {"backbones"})
    assert isinstance(extractor, PyramidExtractor)
    assert [backbone.training for backbone in extractor.backbones] == [not frozen] * 2


def test_pre_trained_weights_are_loaded_unless_told_otherwise() -> None:
    extractor = build_extractor(pyramid_config(backbones=(LITE0,), pretrained=True), 1, 64)
    expected = build_backbone(LITE0, (2, 4, 8, 16, 32))
    assert isinstance(extractor, PyramidExtractor)
    loaded = extractor.backbones[0].state_dict()
    assert loaded
    assert all(torch.equal(loaded[name], value) for name, value in expected.state_dict().items())


@pytest.mark.parametrize(
    ("channels", "size", "message"),
    [
        (2, 64, "channels must be 1 or 3 for pre-trained networks, got 2"),
        (1, 80, r"image_size must be a multiple of the coarsest stride \(32\), got 80"),
    ],
)
def test_images_that_do_not_fit_a_pyramid_are_refused(channels: int, size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_extractor(pyramid_config(), channels, size)


def test_a_pyramid_from_the_command_line() -> None:
    arguments = ["--extractor=pyramid", "--extractor.backbones=[resnet18.tv_in1k]", "--extractor.downsample=16"]
    arguments += ["--extractor.maps_from=resnet18.tv_in1k.16", "--extractor.freeze_backbone=true"]
    config = parse_config([*arguments, "--extractor.backbone_weights={resnet18.tv_in1k: w.safetensors}"]).extractor
    assert config.source == ("resnet18.tv_in1k", 16)
    assert config.backbone_weights == {"resnet18.tv_in1k": Path("w.safetensors")}
    assert config.freeze_backbone
    assert parse_config(["--extractor", "pyramid"]).extractor.source == ("cascade", 8)
