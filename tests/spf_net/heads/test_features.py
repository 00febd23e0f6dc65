"""What the features of each head are, how many, and from which inputs."""

from typing import Any

import pytest
import torch
from spf_net.heads import HEADS, HeadConfig, HeadName, ProjectedSquarePoolingHead, build_head
from spf_net.heads.codes import CodeHead
from torch import nn

from spf_kernels import SPFAutoencoder, dct_basis

from .examples import C, H, W, build, random_maps


@pytest.mark.parametrize("name", list(HEADS))
def test_feature_count_is_what_comes_out(name: HeadName) -> None:
    head, _ = build(name)
    features, loss = head(random_maps())
    assert features.shape == (3, head.features)
    assert loss.shape == ()
    assert (loss > 0) == (name in ("spf", "shared_autoencoder"))


@pytest.mark.parametrize("name", list(HEADS))
def test_features_alone_are_those_of_the_whole_output(name: HeadName) -> None:
    head, _ = build(name)
    assert torch.equal(head.flatten_maps(random_maps()), head(random_maps()).features)


@pytest.mark.parametrize(
    ("settings", "features"),
    [
        ({"name": "spf"}, 16384),
        ({"name": "shared_autoencoder"}, 16384),
        ({"name": "average_pooling"}, 128),
        ({"name": "square_pooling"}, 16384),
        ({"name": "square_pooling_projected"}, 16384),
        ({"name": "adaptive_flatten", "grid": 4}, 2048),
        ({"name": "adaptive_flatten", "grid": 8}, 8192),
        ({"name": "adaptive_flatten", "grid": 11}, 15488),
        ({"name": "flatten"}, 524288),
        ({"name": "dct"}, 16384),
        ({"name": "convolution"}, 15488),
    ],
)
def test_feature_count_at_the_papers_size(settings: dict[str, Any], features: int) -> None:
    with torch.device("meta"):
        head = build_head(HeadConfig(**settings), 128, (64, 64))
        assert head(torch.empty(2, 128, 64, 64)).features.shape == (2, features)
    assert head.features == features


@pytest.mark.parametrize("name", list(HEADS))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision_gives_about_the_same(name: HeadName, dtype: torch.dtype) -> None:
    expected = build(name)[0](random_maps(batch=40)).features
    features = build(name, dtype=dtype)[0](random_maps(batch=40, dtype=dtype)).features
    assert features.dtype == dtype
    error = (features.double() - expected).abs().max() / expected.abs().max()
    assert error < 4 * torch.finfo(dtype).eps


@pytest.mark.parametrize("name", list(HEADS))
def test_no_images_and_any_memory_layout(name: HeadName) -> None:
    head, _ = build(name)
    assert head(random_maps(batch=0)).features.shape == (0, head.features)
    maps = random_maps()
    torch.testing.assert_close(head(maps.contiguous(memory_format=torch.channels_last)), head(maps))


def test_square_pooling_is_the_normalised_second_moment() -> None:
    maps = random_maps()
    moments = torch.einsum("bchw,bdhw->bcd", maps, maps).flatten(1) / (H * W)
    expected = (moments - moments.mean(1, keepdim=True)) / (moments.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(build("square_pooling")[0](maps).features, expected)


def test_projected_square_pooling_is_the_mean_square_of_a_convolution() -> None:
    head, _ = build("square_pooling_projected")
    assert isinstance(head, ProjectedSquarePoolingHead)
    maps = random_maps()
    convolved = nn.functional.conv2d(maps, head.projection.weight[:, :, None, None])
    expected = nn.functional.layer_norm(convolved.square().mean((2, 3)), (9,))
    torch.testing.assert_close(head(maps).features, expected)


def test_a_shared_autoencoder_is_one_linear_layer_each_way_for_all_maps() -> None:
    head, _ = build("shared_autoencoder")
    assert isinstance(head, CodeHead)
    assert isinstance(head.flatten, SPFAutoencoder)
    ((encoder,), (decoder,)) = head.flatten.to_linears()
    pixels = random_maps().flatten(2)
    codes = encoder(pixels).relu()
    features, loss = head(random_maps())
    torch.testing.assert_close(features, codes.flatten(1))
    torch.testing.assert_close(loss, nn.functional.mse_loss(decoder(codes), pixels))


def test_dct_codes_are_the_lowest_cosine_coefficients() -> None:
    maps = random_maps()
    expected = (maps.flatten(2) @ dct_basis((H, W), 4).T).flatten(1)
    torch.testing.assert_close(build("dct")[0](maps).features, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("init", "rival"), [("dct", "dct"), ("grid", "adaptive_flatten")])
@pytest.mark.parametrize("name", ["spf", "shared_autoencoder"])
def test_encoders_may_start_as_their_rivals(name: HeadName, init: str, rival: HeadName) -> None:
    head, _ = build(name, init=init, activation=None)
    torch.testing.assert_close(head(random_maps()).features, build(rival)[0](random_maps()).features)


def test_spf_without_reconstruction_has_no_decoders() -> None:
    head, _ = build("spf", reconstruction_weight=0.0)
    assert sum(parameter.numel() for parameter in head.parameters()) == C * 4 * (H * W + 1)
    assert head(random_maps()).loss == 0


@pytest.mark.parametrize("name", list(HEADS))
def test_weights_survive_a_state_dict(name: HeadName) -> None:
    first, second = build(name, seed=1)[0], build(name, seed=2)[0]
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(random_maps()).features, second(random_maps()).features)


@pytest.mark.parametrize("name", ["spf", "shared_autoencoder", "dct"])
def test_maps_of_another_shape_are_refused(name: HeadName) -> None:
    head, _ = build(name)
    for shape in ((2, C + 1, H, W), (2, C, W, H), (2, C, H * W)):
        with pytest.raises(ValueError, match=r"maps must have shape \('batch', 5, 6, 4\), got "):
            head(torch.zeros(shape, dtype=torch.float64))
