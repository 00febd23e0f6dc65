"""Inputs and upstream gradients of any layout: the right answer, and a copy only where there is no other way.

Layouts with negative strides are missing: PyTorch has none (`flip` copies).
"""

import pytest
import torch

import spf_kernels
from spf_kernels.functional import spf_flatten, spf_reconstruct, spf_reconstruction_loss

from .helpers import decode_double_loop, encode_double_loop, make_case, needs_native

pytestmark = needs_native

C, D, H, W = 5, 6, 7, 9


def _random(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


# name: (maps of shape (4, C, H, W), what reading them in place is not possible for)
MAP_LAYOUTS = {
    "contiguous": (lambda: _random(4, C, H, W), None),
    "slice of a cat along the batch": (lambda: torch.cat([_random(3, C, H, W), _random(4, C, H, W)])[3:], None),
    "slice of a cat along the channels": (
        lambda: torch.cat([_random(4, 2, H, W), _random(4, C, H, W)], 1)[:, 2:],
        None,
    ),
    "expanded batch": (lambda: _random(1, C, H, W).expand(4, -1, -1, -1), None),
    "expanded channels": (lambda: _random(4, 1, H, W).expand(-1, C, -1, -1), None),
    "batch and channels transposed": (lambda: _random(C, 4, H, W).transpose(0, 1), None),
    "every other sample and channel": (lambda: _random(8, 2 * C, H, W)[::2, ::2], None),
    "flipped": (lambda: _random(4, C, H, W).flip(3), None),
    "offset by one element": (lambda: _random(4 * C * H * W + 1)[1:].view(4, C, H, W), None),
    "expanded pixels": (lambda: _random(4, C, 1, 1).expand(-1, -1, H, W), "pixel stride 0"),
    "channels_last": (lambda: _random(4, C, H, W).to(memory_format=torch.channels_last), f"pixel stride {C}"),
    "every other column": (lambda: _random(4, C, H, 2 * W)[..., ::2], "pixel stride 2"),
    "cropped": (lambda: _random(4, C, H + 2, W + 2)[:, :, 1:-1, 1:-1], "rows apart"),
    "cropped columns": (lambda: _random(4, C, H, W + 3)[..., 1:-2], "rows apart"),
    "cropped rows": (lambda: _random(4, C, H + 3, W)[:, :, 1:-2], None),
    "height and width transposed": (lambda: _random(4, C, W, H).transpose(2, 3), "rows apart"),
}
map_layouts = pytest.mark.parametrize(("make", "copied"), MAP_LAYOUTS.values(), ids=MAP_LAYOUTS)

# how a consumer's backward hands the gradient of (4, n) codes back; each is differentiable and reads all of them
CONSUMERS = {
    "sum": lambda codes: codes.sum(),
    "sum over the batch": lambda codes: (codes.sum(0) * _random(codes.shape[1])).sum(),
    "mean of rows": lambda codes: (codes.mean(1) * _random(4)).sum(),
    "cat": lambda codes: (torch.cat([_random(4, 3), codes, _random(4, 2)], 1) * _random(4, codes.shape[1] + 5)).sum(),
    "cat of itself": lambda codes: (torch.cat([codes, codes], 1) * _random(4, 2 * codes.shape[1])).sum(),
    "transpose": lambda codes: (codes.T.contiguous() * _random(codes.shape[1], 4)).sum(),
    "slice": lambda codes: (codes[:, 1::2] * _random(4, codes[:, 1::2].shape[1])).sum(),
    "flip": lambda codes: (codes.flip(1) * _random(4, codes.shape[1])).sum(),
    "chunk": lambda codes: sum((part * _random(*part.shape)).sum() for part in codes.chunk(3, 1)),
    "linear": lambda codes: (torch.nn.functional.linear(codes, _random(2, codes.shape[1])) * _random(4, 2)).sum(),
}
consumers = pytest.mark.parametrize("consume", CONSUMERS.values(), ids=CONSUMERS)


def _copies():
    return {event: count for event, count in spf_kernels.counters().items() if count}


def _leaf(value):
    """A leaf with the layout of `value`."""
    return value.detach().requires_grad_()


def _assert_gradients_match(actual, expected, leaves, doubles):
    """float32 against a float64 loop of a few hundred products: 1e-5 of the largest value."""
    gradients = torch.autograd.grad(actual, leaves)
    exact = torch.autograd.grad(expected, doubles)
    for gradient, truth in zip([actual.detach(), *gradients], [expected.detach(), *exact], strict=True):
        assert torch.allclose(gradient.double(), truth.double(), rtol=0, atol=1e-5 * (1 + float(truth.abs().max())))


@map_layouts
def test_maps_in_flatten(make, copied):
    case = make_case((4, C, D, H * W), activation="tanh")
    maps, weight, bias = _leaf(make()), _leaf(case.weight), _leaf(case.encoder_bias)
    with torch.no_grad():
        spf_flatten(maps, weight, bias, "tanh")
    assert _copies() == ({f"maps copied: {copied}": 1} if copied else {})
    codes = spf_flatten(maps, weight, bias, "tanh")
    expected = encode_double_loop(maps, weight, bias, "tanh")
    upstream = _random(*codes.shape)
    leaves = (maps, weight, bias)
    _assert_gradients_match((codes * upstream).sum(), (expected * upstream).sum(), leaves, leaves)


@map_layouts
@pytest.mark.parametrize("detach_target", [True, False])
def test_maps_in_the_loss(make, copied, detach_target):
    case = make_case((4, C, D, H * W))
    leaves = [_leaf(value) for value in (case.codes, case.weight, case.decoder_bias)]
    maps = _leaf(make())
    leaves += [] if detach_target else [maps]
    loss = spf_reconstruction_loss(leaves[0], maps, leaves[1], leaves[2], "sigmoid", "mean", detach_target)
    assert _copies() == ({f"maps copied: {copied}": 1} if copied else {})
    decoded = decode_double_loop(leaves[0], leaves[1], leaves[2], "sigmoid")
    expected = (decoded - maps.flatten(2).double()).square().mean()
    _assert_gradients_match(loss, expected, leaves, leaves)


@map_layouts
def test_one_copy_for_every_pass_that_reads_the_maps(make, copied):
    layer = spf_kernels.SPFFlatten(C, (H, W), D)
    layer(make()).sum().backward()
    autoencoder = spf_kernels.SPFAutoencoder(C, (H, W), D, detach_target=False)
    assert _copies() == ({f"maps copied: {copied}": 1} if copied else {})
    spf_kernels.reset_counters()
    codes, loss = autoencoder(make())
    (codes.sum() + loss).backward()
    copies = {event: times for event, times in _copies().items() if event.startswith("maps")}
    assert copies == ({f"maps copied: {copied}": 1} if copied else {})


@consumers
@pytest.mark.parametrize("activation", [None, "relu", "tanh", "sigmoid"])
def test_upstream_gradients_of_flatten(consume, activation):
    case = make_case((4, C, D, H * W), exact=True)
    leaves = [_leaf(value) for value in (case.maps, case.weight, case.encoder_bias)]
    actual = consume(spf_flatten(*leaves, activation))
    expected = consume(encode_double_loop(*leaves, activation or "none").float())
    _assert_gradients_match(actual, expected, leaves, leaves)


@consumers
@pytest.mark.parametrize("activation", [None, "relu", "tanh", "sigmoid"])
def test_upstream_gradients_of_reconstruct(consume, activation):
    case = make_case((4, C, D, H * W), exact=True)
    leaves = [_leaf(value) for value in (case.codes, case.weight, case.decoder_bias)]
    actual = consume(spf_reconstruct(*leaves, activation).flatten(1))
    expected = consume(decode_double_loop(*leaves, activation or "none").float().flatten(1))
    _assert_gradients_match(actual, expected, leaves, leaves)


@pytest.mark.parametrize(
    "make_upstream",
    [
        lambda: _random(4, C, H * W),
        lambda: _random(4, C, 1).expand(-1, -1, H * W),
        lambda: _random(C, 4, H * W).transpose(0, 1),
        lambda: _random(4, H * W, C).transpose(1, 2),
        lambda: _random(4, C, 2 * H * W)[..., ::2],
        lambda: torch.ones(()).expand(4, C, H * W),
    ],
    ids=["contiguous", "expanded pixels", "transposed batch", "transposed pixels", "every other pixel", "one number"],
)
@pytest.mark.parametrize("activation", [None, "tanh"])
def test_gradients_handed_to_reconstruct(make_upstream, activation):
    case = make_case((4, C, D, H * W))
    leaves = [_leaf(value) for value in (case.codes, case.weight, case.decoder_bias)]
    upstream = make_upstream()
    actual = torch.autograd.grad(spf_reconstruct(*leaves, activation), leaves, upstream)
    expected = torch.autograd.grad(decode_double_loop(*leaves, activation or "none"), leaves, upstream.double())
    for gradient, truth in zip(actual, expected, strict=True):
        assert torch.allclose(gradient, truth.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("expand", [True, False], ids=["expanded", "a value each"])
@pytest.mark.parametrize("detach_target", [True, False])
@pytest.mark.parametrize("activation", [None, "tanh"])
def test_gradients_handed_to_the_loss_of_each_sample(expand, detach_target, activation):
    case = make_case((4, C, D, H * W))
    leaves = [_leaf(value) for value in (case.codes, case.weight, case.decoder_bias)]
    maps = _leaf(case.maps)
    leaves += [] if detach_target else [maps]
    loss = spf_reconstruction_loss(leaves[0], maps, leaves[1], leaves[2], activation, "none", detach_target)
    upstream = _random(1).expand(4) if expand else _random(4)
    decoded = decode_double_loop(leaves[0], leaves[1], leaves[2], activation or "none")
    expected = (decoded - maps.double()).square().mean((1, 2))
    actual_gradients = torch.autograd.grad(loss, leaves, upstream)
    exact_gradients = torch.autograd.grad(expected, leaves, upstream.double())
    for gradient, truth in zip(actual_gradients, exact_gradients, strict=True):
        assert torch.allclose(gradient, truth.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: _random(4, C * D),
        lambda: _random(C * D, 4).T,
        lambda: _random(4, C * D + 7)[:, 7:],
        lambda: _random(1, C * D).expand(4, -1),
        lambda: _random(4, 1).expand(-1, C * D),
        lambda: _random(4, D, C).transpose(1, 2),
        lambda: _random(4, C, 2 * D)[..., ::2],
        lambda: _random(8, C, D)[::2],
    ],
    ids=["contiguous", "transposed", "slice", "one row", "one column", "codes apart", "every other", "every other row"],
)
def test_codes_of_any_strides_are_read_in_place(make):
    case = make_case((4, C, D, H * W))
    weight, bias = case.weight, case.decoder_bias
    decoded = spf_reconstruct(make(), weight, bias)
    loss = spf_reconstruction_loss(make(), case.maps, weight, bias)
    expected = decode_double_loop(make().reshape(4, C, D), weight, bias, "none")
    assert torch.allclose(decoded, expected.float(), atol=1e-5)
    assert torch.allclose(loss, (expected - case.maps).square().mean().float(), rtol=1e-5)
    assert _copies() == {}


@pytest.mark.parametrize(
    "make", [lambda w: w, lambda w: w.transpose(1, 2).contiguous().transpose(1, 2)], ids=["contiguous", "transposed"]
)
def test_weights_of_another_layout_are_copied_and_counted(make):
    case = make_case((4, C, D, H * W))
    weight, bias = _leaf(make(case.weight)), _leaf(torch.stack([case.encoder_bias, case.encoder_bias], 2)[..., 1])
    codes = spf_flatten(case.maps, weight, bias)
    weight_copy = {} if weight.is_contiguous() else {"weight copied: not contiguous": 1}
    assert _copies() == {"bias copied: not contiguous": 1, **weight_copy}
    expected = encode_double_loop(case.maps, weight, bias, "none")
    _assert_gradients_match(codes.sum(), expected.sum(), (weight, bias), (weight, bias))


def test_counters_are_a_copy_and_can_be_reset():
    layer = spf_kernels.SPFFlatten(C, (H, W), D)
    layer(MAP_LAYOUTS["channels_last"][0]())
    spf_kernels.counters().clear()
    assert sum(spf_kernels.counters().values()) == 1
    spf_kernels.reset_counters()
    assert spf_kernels.counters() == {}
