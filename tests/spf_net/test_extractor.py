"""Sizes of the extractor, and what its padding says about position."""

from typing import Any, Literal

import pytest
import torch
from spf_net.extractor import ExtractorConfig, NoExtractor, PaddingMode, build_extractor
from torch.nn import functional


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
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExtractorConfig(**settings)


@pytest.mark.parametrize("name", ["convolutional", "none"])
def test_an_image_size_that_does_not_divide_is_refused(name: Literal["convolutional", "none"]) -> None:
    with pytest.raises(ValueError, match=r"image_size must be a multiple of downsample \(8\), got 36"):
        build_extractor(ExtractorConfig(name=name), 1, 36)
