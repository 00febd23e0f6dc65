"""torch.func and forward-mode differentiation: right, or a clear error, never silently wrong."""

import pytest
import torch

from spf_kernels.functional import spf_flatten, spf_reconstruction_loss

from .helpers import DEVICE, randn

C, D, S = 3, 4, 30


def _maps():
    return randn(4, C, S)


def _transformed(weight):
    codes = spf_flatten(_maps(), weight, None, "tanh")
    return codes.square().sum() + spf_reconstruction_loss(codes, _maps(), weight)


def _right_or_refused(transform, expected):
    try:
        result = transform()
    except (RuntimeError, NotImplementedError) as error:
        # what PyTorch says where a rule is missing
        assert any(word in str(error) for word in ("setup_context", "forward AD", "jvp", "forward-mode"))  # noqa: PT017
        return
    assert torch.allclose(result, expected, rtol=1e-5, atol=1e-6)


@pytest.fixture
def weight():
    return randn(C, D, S, seed=0) / 5


@pytest.fixture
def gradient(weight):
    weight = weight.clone().requires_grad_()
    return torch.autograd.grad(_transformed(weight), weight)[0]


def test_grad(weight, gradient):
    _right_or_refused(lambda: torch.func.grad(_transformed)(weight), gradient)


def test_vjp(weight, gradient):
    _right_or_refused(lambda: torch.func.vjp(_transformed, weight)[1](torch.tensor(1.0, device=DEVICE))[0], gradient)


def test_jvp(weight, gradient):
    tangent = torch.ones_like(weight)
    _right_or_refused(lambda: torch.func.jvp(_transformed, (weight,), (tangent,))[1], gradient.sum())


@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "differentiable"])
def test_forward_mode(weight, gradient, frozen):
    weight.requires_grad_(not frozen)

    def directional():
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(weight, torch.ones_like(weight))
            tangent = torch.autograd.forward_ad.unpack_dual(_transformed(dual)).tangent
        return torch.zeros((), device=DEVICE) if tangent is None else tangent

    _right_or_refused(directional, gradient.sum())


def test_vmap(weight):
    batched = torch.func.vmap(lambda maps: spf_flatten(maps, weight))(_maps()[:, None])
    assert torch.equal(batched[:, 0], spf_flatten(_maps(), weight))
