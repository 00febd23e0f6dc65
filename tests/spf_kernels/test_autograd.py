"""The formulas of the derivatives, in float64, and that no more of them is computed than asked for."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from spf_kernels import functional
from spf_kernels.backends import reference
from spf_kernels.functional import spf_flatten, spf_reconstruct, spf_reconstruction_loss

from .helpers import ACTIVATIONS, make_case

SIZES = (3, 2, 3, 6)


def _case(activation, bias=True, exact=False):
    """Float64 leaves; exact ones keep relu away from its kink."""
    case = make_case(SIZES, activation=activation, bias=bias, exact=exact, seed=5).to(torch.float64)
    return case._replace(
        **{name: value.requires_grad_() for name, value in case._asdict().items() if torch.is_tensor(value)}
    )


bias_or_not = pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])


@bias_or_not
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
def test_flatten_in_float64(check, activation, bias):
    case = _case(activation, bias)
    assert check(spf_flatten, (case.maps, case.weight, case.encoder_bias, activation))


@bias_or_not
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("check", [gradcheck, gradgradcheck])
def test_reconstruct_in_float64(check, activation, bias):
    case = _case(activation, bias)
    assert check(spf_reconstruct, (case.codes, case.weight, case.decoder_bias, activation))


@bias_or_not
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("reduction", functional.REDUCTIONS)
@pytest.mark.parametrize("detach_target", [True, False])
def test_loss_in_float64(detach_target, reduction, activation, bias):
    case = _case(activation, bias)
    maps = case.maps.detach() if detach_target else case.maps
    inputs = (case.codes, maps, case.weight, case.decoder_bias, activation, reduction, detach_target)
    assert gradcheck(spf_reconstruction_loss, inputs)


def test_detached_target_gets_no_gradient():
    case = _case("tanh")
    spf_reconstruction_loss(case.codes, case.maps, case.weight).backward()
    assert case.maps.grad is None
    assert case.codes.grad is not None


@pytest.mark.parametrize("activation", ["none", "tanh"])
def test_second_derivative_of_the_loss(activation):
    case = _case(activation)

    def loss(codes, maps, weight, bias):
        return spf_reconstruction_loss(codes, maps, weight, bias, activation, detach_target=False)

    leaves = (case.codes, case.maps, case.weight, case.decoder_bias)
    assert gradgradcheck(loss, leaves)


@pytest.mark.parametrize("wanted", ["codes", "weight", "decoder_bias"])
def test_gradient_penalty_is_not_left_out(wanted):
    def penalised(loss_of, case):
        leaves = (case.codes, case.weight, case.decoder_bias)
        loss = loss_of(*leaves)
        (gradient,) = torch.autograd.grad(loss, getattr(case, wanted), create_graph=True)
        return torch.autograd.grad(loss + gradient.square().sum(), leaves)

    case = _case("sigmoid")
    ours = penalised(lambda z, w, b: spf_reconstruction_loss(z, case.maps.detach(), w, b, "sigmoid"), case)
    plain = penalised(
        lambda z, w, b: (torch.sigmoid(torch.einsum("bcd,cds->bcs", z, w) + b) - case.maps.detach()).square().mean(),
        case,
    )
    for one, two in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-14)


class _Counter:
    """Counts the calls of a backend's functions by name."""

    def __init__(self, monkeypatch, backend):
        self.calls = []
        for name in ("encode", "decode", "outer", "reconstruct"):
            monkeypatch.setattr(backend, name, self._counted(name, getattr(backend, name)))

    def _counted(self, name, original):
        def call(*arguments):
            # what reconstruct was asked for is part of what it costs
            asked = arguments[5:] if name == "reconstruct" else ()
            self.calls.append((name, *asked))
            return original(*arguments)

        return call

    def during(self, action):
        self.calls = []
        action()
        return self.calls


@pytest.fixture
def counter(monkeypatch):
    return _Counter(monkeypatch, reference)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (("maps",), ["decode"]),
        (("weight",), ["outer"]),
        (("encoder_bias",), []),
        (("maps", "weight", "encoder_bias"), ["decode", "outer"]),
    ],
)
def test_flatten_computes_only_the_gradients_asked_for(wanted, expected, counter):
    case = make_case(SIZES, activation="tanh").to(torch.float64)
    case = case._replace(**{name: getattr(case, name).requires_grad_() for name in wanted})
    codes = spf_flatten(case.maps, case.weight, case.encoder_bias, "tanh")
    assert counter.during(lambda: codes.sum().backward()) == [(name,) for name in expected]
    for name in ("maps", "weight", "encoder_bias"):
        assert (getattr(case, name).grad is not None) == (name in wanted)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (("codes",), ["encode"]),
        (("weight",), ["outer"]),
        (("decoder_bias",), []),
        (("codes", "weight", "decoder_bias"), ["encode", "outer"]),
    ],
)
def test_reconstruct_computes_only_the_gradients_asked_for(wanted, expected, counter):
    case = make_case(SIZES, activation="sigmoid").to(torch.float64)
    case = case._replace(**{name: getattr(case, name).requires_grad_() for name in wanted})
    maps = spf_reconstruct(case.codes, case.weight, case.decoder_bias, "sigmoid")
    assert counter.during(lambda: maps.sum().backward()) == [(name,) for name in expected]
    for name in ("codes", "weight", "decoder_bias"):
        assert (getattr(case, name).grad is not None) == (name in wanted)


@pytest.mark.parametrize(
    ("wanted", "activation", "forward", "backward"),
    [
        ((), "tanh", (False, False, False), 0),
        (("codes",), "tanh", (False, False, True), 0),
        (("maps",), "tanh", (False, True, False), 0),
        (("weight",), "tanh", (True, False, False), 1),
        (("decoder_bias",), "tanh", (True, False, False), 1),
        (("weight", "maps"), "tanh", (True, True, False), 1),
        # without an activation the error is the residual
        (("weight", "maps"), "none", (True, False, False), 1),
        (("codes", "maps", "weight", "decoder_bias"), "tanh", (True, True, True), 2),
    ],
)
def test_loss_computes_only_what_its_gradients_need(wanted, activation, forward, backward, counter):
    case = make_case(SIZES, activation=activation).to(torch.float64)
    case = case._replace(**{name: getattr(case, name).requires_grad_() for name in wanted})
    inputs = (case.codes, case.maps, case.weight, case.decoder_bias, activation)
    losses = []
    calls = counter.during(lambda: losses.append(spf_reconstruction_loss(*inputs, detach_target=False)))
    assert calls == [("reconstruct", *forward)]
    if wanted:
        assert counter.during(lambda: losses[0].backward()) == [("outer",)] * backward
    for name in ("codes", "maps", "weight", "decoder_bias"):
        assert (getattr(case, name).grad is not None) == (name in wanted)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_nothing_is_kept_without_gradients(mode, counter):
    case = _case("tanh")
    with mode():
        codes = spf_flatten(case.maps, case.weight, case.encoder_bias, "tanh")
        maps = spf_reconstruct(codes, case.weight, case.decoder_bias)
        loss = spf_reconstruction_loss(codes, case.maps, case.weight, detach_target=False)
    assert not any(result.requires_grad for result in (codes, maps, loss))
    assert codes.is_inference() == (mode is torch.inference_mode)
    assert counter.calls == [("encode",), ("decode",), ("reconstruct", False, False, False)]


def test_saved_tensors_changed_in_place_are_noticed():
    case = _case("tanh")
    maps = case.maps.detach().clone()
    codes = spf_flatten(maps, case.weight, case.encoder_bias, "tanh")
    maps.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        codes.sum().backward()


def test_backward_twice_gives_the_same_gradients():
    case = _case("tanh")
    loss = spf_reconstruction_loss(case.codes, case.maps, case.weight, case.decoder_bias, "tanh")
    first = torch.autograd.grad(loss, (case.codes, case.weight), retain_graph=True)
    second = torch.autograd.grad(loss, (case.codes, case.weight))
    for one, two in zip(first, second, strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("differentiable", [False, True])
def test_gradients_where_one_input_depends_on_another(differentiable):
    case = _case("tanh")
    weight, maps = case.weight, case.maps
    codes = spf_flatten(maps, weight)
    loss = spf_reconstruction_loss(codes, maps, weight, None, "tanh", detach_target=False)
    plain_codes = torch.einsum("bcs,cds->bcd", maps, weight)
    plain = (torch.tanh(torch.einsum("bcd,cds->bcs", plain_codes, weight)) - maps).square().mean()
    found = torch.autograd.grad(loss, (weight, maps), create_graph=differentiable)
    for one, two in zip(found, torch.autograd.grad(plain, (weight, maps)), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-14)
