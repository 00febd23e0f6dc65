"""What learns in each head, and what stays as it is."""

import pytest
import torch
from spf_net.heads import HEADS, GradMode, HeadConfig, HeadName, SPFHead, build_head
from torch import Tensor

from spf_kernels import FactoredGrad, SPFAutoencoder

from .examples import C, H, W, build, random_maps


def gradients(name: HeadName, grad_mode: GradMode = "dense", **settings: object) -> dict[str, Tensor | None]:
    """After a backward, of the maps and of each parameter by its name."""
    torch.manual_seed(0)
    config = HeadConfig(name=name, code_size=4, grid=2, projections=9, **settings)  # type: ignore[arg-type]
    head = build_head(config, C, (H, W), grad_mode).double()
    maps = random_maps().requires_grad_()
    features, loss = head(maps)
    (features.pow(3).sum() + loss).backward()
    return {"maps": maps.grad} | {parameter: tensor.grad for parameter, tensor in head.named_parameters()}


def dense(gradient: Tensor | None) -> Tensor:
    assert gradient is not None
    return gradient + 0


@pytest.mark.parametrize("name", list(HEADS))
def test_gradients_reach_the_maps_and_all_that_is_trained(name: HeadName) -> None:
    for parameter, gradient in gradients(name).items():
        if name == "dct" and parameter != "maps":
            assert gradient is None
        else:
            assert gradient is not None
            assert gradient.abs().max() > 0


@pytest.mark.parametrize("name", ["spf", "shared_autoencoder"])
@pytest.mark.parametrize("grad_mode", ["dense", "factored"])
@pytest.mark.parametrize("reconstruction_weight", [0.0, 1.0])
def test_frozen_encoders_take_no_gradient(name: HeadName, grad_mode: GradMode, reconstruction_weight: float) -> None:
    learning = gradients(name, grad_mode, reconstruction_weight=reconstruction_weight)
    frozen = gradients(name, grad_mode, reconstruction_weight=reconstruction_weight, frozen=True)
    for parameter, gradient in frozen.items():
        if "decoder" in parameter or parameter == "maps":
            torch.testing.assert_close(dense(gradient), dense(learning[parameter]))
        else:
            assert gradient is None
    assert sum(gradient is not None for gradient in frozen.values()) == (3 if reconstruction_weight else 1)


@pytest.mark.parametrize("reconstruction_weight", [0.0, 1.0])
def test_spf_leaves_factored_gradients_that_equal_the_dense_ones(reconstruction_weight: float) -> None:
    expected = gradients("spf", "dense", reconstruction_weight=reconstruction_weight)
    factored = gradients("spf", "factored", reconstruction_weight=reconstruction_weight)
    assert {name for name, gradient in factored.items() if isinstance(gradient, FactoredGrad)} == {
        name for name in expected if name.endswith("weight")
    }
    for name, gradient in factored.items():
        torch.testing.assert_close(dense(gradient), expected[name])


@pytest.mark.parametrize("detach_target", [True, False])
def test_detached_target_changes_the_gradient_of_the_maps(detach_target: bool) -> None:
    head, _ = build("spf", activation=None, detach_target=detach_target)
    maps = random_maps().requires_grad_()
    (gradient,) = torch.autograd.grad(head(maps).loss, maps)
    assert isinstance(head, SPFHead)
    assert isinstance(head.flatten, SPFAutoencoder)
    encoders, decoders = head.flatten.encoder, head.flatten.decoder
    residual = decoders(encoders(maps)) - maps
    target = -2 * residual / maps.numel()
    through_code = torch.autograd.grad(residual.square().mean(), maps)[0] - target
    expected = through_code if detach_target else through_code + target
    torch.testing.assert_close(gradient, expected)
