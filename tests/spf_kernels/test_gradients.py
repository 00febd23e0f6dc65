"""First and second derivatives through the kernels, within the error budget."""

import pytest
import torch

from spf_kernels.functional import spf_flatten, spf_reconstruct, spf_reconstruction_loss

from .helpers import (
    DEVICE,
    DTYPES,
    EPS32,
    activate,
    assert_within_budget,
    layers,
    make_case,
    needs_kernels,
    randn,
)

pytestmark = needs_kernels


def _torch_gradients(case, name, upstream):
    """Gradients of the plain operators in the dtype of the case (float32 for mixed ones), rounded to the leaves'."""
    mixed = case.maps.dtype != case.weight.dtype
    leaves = [value.detach().requires_grad_() for value in _leaves(case, name)]
    x, weight, bias = (leaf.float() if mixed else leaf for leaf in leaves)
    weight = weight.transpose(1, 2) if name == "encode" else weight
    out = activate(torch.einsum("bck,ckn->bcn", x, weight) + bias, case.activation)
    return torch.autograd.grad(out, leaves, upstream.to(out.dtype))


def _leaves(case, name):
    if name == "encode":
        return case.maps, case.weight, case.encoder_bias
    return case.codes, case.weight, case.decoder_bias


def _one_rounding(truth, dtype):
    """What makes the budget's band one rounding of `dtype` and four of float32, relative to the result."""
    return truth * (1 + torch.finfo(dtype).eps / (4 * EPS32))


@pytest.mark.usefixtures("isa", "poisoned_outputs")
@layers
@pytest.mark.parametrize("name", ["encode", "decode"])
def test_gradients_within_the_budget(name, activation, dtype, weight_dtype):
    # sums without rounding errors for relu: no element changes side of its kink
    case = make_case((13, 3, 17, 49), dtype, weight_dtype, activation, exact=activation == "relu")
    leaves = [value.requires_grad_() for value in _leaves(case, name)]
    function = spf_flatten if name == "encode" else spf_reconstruct
    out = function(*leaves, activation).view(13, 3, -1)
    upstream = make_case((13, 3, out.shape[2], 1), dtype, seed=9).codes
    gradients = torch.autograd.grad(out, leaves, upstream)
    rivals = _torch_gradients(case, name, upstream)
    exact = _torch_gradients(case.to(torch.float64), name, upstream)
    # the backward starts from the rounded output
    for gradient, rival, truth in zip(gradients, rivals, exact, strict=True):
        assert_within_budget(gradient, rival, truth, _one_rounding(truth, dtype))


@pytest.mark.usefixtures("poisoned_outputs")
@layers
def test_gradients_of_the_loss_within_the_budget(activation, dtype, weight_dtype):
    case = make_case((13, 3, 17, 49), dtype, weight_dtype, activation, exact=activation == "relu")
    factors = randn(13, seed=2)

    def gradients(case, dtype=None):
        leaves = [v.detach().requires_grad_() for v in (case.codes, case.maps, case.weight, case.decoder_bias)]
        if dtype is None:
            loss = spf_reconstruction_loss(*leaves, case.activation, "none", detach_target=False)
        else:
            codes, maps, weight, bias = (leaf.to(dtype) for leaf in leaves)
            decoded = activate(torch.einsum("bcd,cds->bcs", codes, weight) + bias, case.activation)
            loss = (decoded - maps).square().mean((1, 2))
        return torch.autograd.grad(loss, leaves, factors.to(loss.dtype))

    mixed = dtype != weight_dtype
    rivals = gradients(case, torch.float32 if mixed else dtype)
    exact = gradients(case.to(torch.float64), torch.float64)
    # error and residual are kept in the maps' dtype between forward and backward: one rounding more
    for gradient, rival, truth in zip(gradients(case), rivals, exact, strict=True):
        assert_within_budget(gradient, rival, truth, _one_rounding(truth, dtype))


@pytest.mark.parametrize("name", ["encode", "decode"])
def test_bias_gradients_are_summed_in_the_bias_dtype(name):
    case = make_case((64, 3, 5, 7), torch.bfloat16, torch.float32)
    leaves = [value.requires_grad_() for value in _leaves(case, name)]
    out = (spf_flatten if name == "encode" else spf_reconstruct)(*leaves).view(64, 3, -1)
    upstream = make_case((64, 3, out.shape[2], 1), torch.bfloat16, seed=9).codes
    (gradient,) = torch.autograd.grad(out, leaves[2], upstream)
    assert gradient.dtype == torch.float32
    assert torch.allclose(gradient.double(), upstream.double().sum(0), rtol=1e-5, atol=1e-5)


def _plain(name, reduction_dtype, activation):
    """The function of this name in plain operators."""

    def function(x, weight, bias, *target):
        equation = "bcs,cds->bcd" if name == "encode" else "bcd,cds->bcs"
        out = activate(torch.einsum(equation, x, weight) + bias, activation)
        return out if not target else (out - target[0]).to(reduction_dtype).square().mean((1, 2))

    return function


def _ours(name, activation):
    if name == "encode":
        return lambda *leaves: spf_flatten(*leaves, activation).view(*leaves[0].shape[:2], -1)
    if name == "decode":
        return lambda *leaves: spf_reconstruct(*leaves, activation)
    return lambda z, w, b, x: spf_reconstruction_loss(z, x, w, b, activation, "none", detach_target=False)


def _second_derivatives(function, leaves, upstream, directions):
    """The gradients of the first derivatives along `directions`."""
    leaves = [leaf.detach().requires_grad_() for leaf in leaves]
    out = function(*leaves)
    first = torch.autograd.grad(out, leaves, upstream.to(out.dtype), create_graph=True)
    along = sum((gradient * direction).sum() for gradient, direction in zip(first, directions, strict=True))
    # a bias without an activation has none
    return torch.autograd.grad(along, leaves, materialize_grads=True)


@pytest.mark.usefixtures("isa", "poisoned_outputs")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("activation", ["none", "tanh", "sigmoid"])
@pytest.mark.parametrize("name", ["encode", "decode", "loss"])
def test_second_derivatives_within_the_budget(name, activation, dtype):
    case = make_case((5, 2, 17, 33), dtype, dtype, activation)
    leaves = _leaves(case, name) + ((case.maps,) if name == "loss" else ())
    directions = [randn(*leaf.shape, dtype=dtype, seed=3) for leaf in leaves]
    upstream = randn(*{"encode": (5, 2, 17), "decode": (5, 2, 33), "loss": (5,)}[name], dtype=dtype, seed=4)
    found = _second_derivatives(_ours(name, activation), leaves, upstream, directions)
    rivals = _second_derivatives(_plain(name, torch.float32, activation), leaves, upstream, directions)
    double = [[tensor.double() for tensor in tensors] for tensors in (leaves, directions)]
    exact = _second_derivatives(_plain(name, torch.float64, activation), double[0], upstream, double[1])
    for gradient, rival, truth in zip(found, rivals, exact, strict=True):
        assert_within_budget(gradient, rival, truth, _one_rounding(truth, dtype))


def test_bias_gradient_in_low_precision_is_rounded_once():
    weight = randn(1, 1, 4, dtype=torch.bfloat16).requires_grad_()
    bias = torch.zeros(1, 1, dtype=torch.bfloat16, device=DEVICE, requires_grad=True)
    codes = spf_flatten(torch.ones(2, 1, 4, device=DEVICE), weight, bias)
    codes.backward(torch.tensor([[1 + 2.0**-9], [-1.0]], device=DEVICE))
    assert bias.grad.item() == 2.0**-9


def test_float16_codes_gradient_does_not_overflow_before_it_is_scaled():
    weight = torch.full((1, 8, 4096), 0.05, dtype=torch.float16, device=DEVICE)
    codes = torch.zeros(1, 8, dtype=torch.float16, device=DEVICE, requires_grad=True)
    maps = torch.full((1, 1, 64, 64), -400.0, dtype=torch.float16, device=DEVICE)
    spf_reconstruction_loss(codes, maps, weight).backward()
    assert codes.grad.float().mean().item() == pytest.approx(40, rel=1e-2)
