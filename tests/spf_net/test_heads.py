"""What each head keeps of the positions in its maps."""

from typing import Any

import pytest
import torch
from spf_net.heads import HEADS, HeadConfig, HeadName, SPFHead, build_head
from torch import Tensor

from spf_kernels import FactoredGrad, SPFAutoencoder

C, H, W = 5, 6, 4


def permuted(maps: Tensor, seed: int) -> Tensor:
    order = torch.randperm(H * W, generator=torch.Generator().manual_seed(seed))
    return maps.flatten(2)[:, :, order].view_as(maps)


@pytest.fixture
def maps() -> Tensor:
    return torch.rand(3, C, H, W, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def logits_of(name: HeadName, maps: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of the maps and of the maps with permuted positions, from one head and one dense layer."""
    torch.manual_seed(0)
    head = build_head(HeadConfig(name=name, code_size=3, grid=2), C, (H, W)).double()
    classifier = torch.nn.Linear(head.features, 7).double()
    with torch.no_grad():
        return classifier(head(maps).features), classifier(head(permuted(maps, 2)).features)


@pytest.mark.parametrize("name", ["average_pooling", "square_pooling"])
def test_pooling_heads_do_not_see_positions(name: HeadName, maps: Tensor) -> None:
    before, after = logits_of(name, maps)
    torch.testing.assert_close(before, after, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["spf", "adaptive_flatten"])
def test_flattening_heads_see_positions(name: HeadName, maps: Tensor) -> None:
    before, after = logits_of(name, maps)
    assert ((before - after).abs() > 1e-3).any(dim=1).all()


@pytest.mark.parametrize("name", list(HEADS))
def test_feature_count_is_what_comes_out(name: HeadName, maps: Tensor) -> None:
    head = build_head(HeadConfig(name=name, code_size=3, grid=2), C, (H, W)).double()
    features, loss = head(maps)
    assert features.shape == (3, head.features)
    assert loss.shape == ()
    assert (loss > 0) == (name == "spf")


def test_square_pooling_is_the_normalised_second_moment(maps: Tensor) -> None:
    features = build_head(HeadConfig(name="square_pooling"), C, (H, W))(maps).features
    expected = torch.einsum("bchw,bdhw->bcd", maps, maps).flatten(1) / (H * W)
    expected = (expected - expected.mean(1, keepdim=True)) / (expected.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(features, expected)


def test_spf_without_reconstruction_has_no_decoders(maps: Tensor) -> None:
    head = build_head(HeadConfig(code_size=3, reconstruction_weight=0.0), C, (H, W)).double()
    assert sum(parameter.numel() for parameter in head.parameters()) == C * 3 * (H * W + 1)
    assert head(maps).loss == 0


@pytest.mark.parametrize("reconstruction_weight", [0.0, 1.0])
def test_spf_leaves_factored_gradients_that_equal_the_dense_ones(maps: Tensor, reconstruction_weight: float) -> None:
    gradients = []
    for grad_mode in ("dense", "factored"):
        torch.manual_seed(0)
        settings = HeadConfig(code_size=3, reconstruction_weight=reconstruction_weight)
        head = build_head(settings, C, (H, W), grad_mode).double()
        features, loss = head(maps)
        (features.square().sum() + loss).backward()
        gradients.append({name: parameter.grad for name, parameter in head.named_parameters()})
    dense, factored = gradients
    assert {name for name, gradient in factored.items() if isinstance(gradient, FactoredGrad)} == {
        name for name in dense if name.endswith("weight")
    }
    for name, gradient in factored.items():
        torch.testing.assert_close(gradient + 0, dense[name])


@pytest.mark.parametrize("detach_target", [True, False])
def test_detached_target_changes_the_gradient_of_the_maps(maps: Tensor, detach_target: bool) -> None:
    torch.manual_seed(0)
    head = build_head(HeadConfig(code_size=3, activation=None, detach_target=detach_target), C, (H, W)).double()
    maps = maps.requires_grad_()
    (gradient,) = torch.autograd.grad(head(maps).loss, maps)
    assert isinstance(head, SPFHead)
    assert isinstance(head.flatten, SPFAutoencoder)
    encoders, decoders = head.flatten.encoder, head.flatten.decoder
    residual = decoders(encoders(maps)) - maps
    target = -2 * residual / maps.numel()
    through_code = torch.autograd.grad(residual.square().mean(), maps)[0] - target
    expected = through_code if detach_target else through_code + target
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"code_size": 0}, "code_size must be positive, got 0"),
        ({"reconstruction_weight": -1.0}, "reconstruction_weight must not be negative, got -1.0"),
        ({"grid": 0}, "grid must be positive, got 0"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HeadConfig(**settings)


def test_a_grid_finer_than_the_maps_is_refused() -> None:
    with pytest.raises(ValueError, match=r"grid must not be finer than the maps \(6, 4\), got 5"):
        build_head(HeadConfig(name="adaptive_flatten", grid=5), C, (H, W))
