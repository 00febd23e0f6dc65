"""Inputs and upstream gradients of any layout: the right answer, and a copy only where there is no other way.

Layouts with negative strides are missing: PyTorch has none (`flip` copies).
"""

import pytest
import torch

import spf_kernels
from spf_kernels.functional import spf_flatten, spf_reconstruct, spf_reconstruction_loss

from .helpers import (
    ARGUMENTS,
    BACKEND,
    DEVICE,
    NAME,
    check_kernel,
    decode_double_loop,
    encode_double_loop,
    make_case,
    needs_kernels,
    randn,
)

pytestmark = needs_kernels

C, D, H, W = 3, 6, 7, 9

# name: (maps of shape (4, C, H, W), what reading them in place is not possible for)
MAP_LAYOUTS = {
    "contiguous": (lambda: randn(4, C, H, W), None),
    "slice of a cat along the batch": (lambda: torch.cat([randn(3, C, H, W), randn(4, C, H, W)])[3:], None),
    "slice of a cat along the channels": (
        lambda: torch.cat([randn(4, 2, H, W), randn(4, C, H, W)], 1)[:, 2:],
        None,
    ),
    "expanded batch": (lambda: randn(1, C, H, W).expand(4, -1, -1, -1), None),
    "expanded channels": (lambda: randn(4, 1, H, W).expand(-1, C, -1, -1), None),
    "batch and channels transposed": (lambda: randn(C, 4, H, W).transpose(0, 1), None),
    "every other sample and channel": (lambda: randn(8, 2 * C, H, W)[::2, ::2], None),
    "flipped": (lambda: randn(4, C, H, W).flip(3), None),
    "offset by one element": (lambda: randn(4 * C * H * W + 1)[1:].view(4, C, H, W), None),
    "expanded pixels": (lambda: randn(4, C, 1, 1).expand(-1, -1, H, W), "pixel stride 0"),
    "channels_last": (lambda: randn(4, C, H, W).to(memory_format=torch.channels_last), f"pixel stride {C}"),
    "every other column": (lambda: randn(4, C, H, 2 * W)[..., ::2], "pixel stride 2"),
    "cropped": (lambda: randn(4, C, H + 2, W + 2)[:, :, 1:-1, 1:-1], "rows apart"),
    "cropped columns": (lambda: randn(4, C, H, W + 3)[..., 1:-2], "rows apart"),
    "cropped rows": (lambda: randn(4, C, H + 3, W)[:, :, 1:-2], None),
    "height and width transposed": (lambda: randn(4, C, W, H).transpose(2, 3), "rows apart"),
}
map_layouts = pytest.mark.parametrize(("make", "copied"), MAP_LAYOUTS.values(), ids=MAP_LAYOUTS)

# how a consumer's backward hands the gradient of (4, n) codes back; each is differentiable and reads all of them
CONSUMERS = {
    "sum": lambda codes: codes.sum(),
    "sum over the batch": lambda codes: (codes.sum(0) * randn(codes.shape[1])).sum(),
    "mean of rows": lambda codes: (codes.mean(1) * randn(4)).sum(),
    "cat": lambda codes: (torch.cat([randn(4, 3), codes, randn(4, 2)], 1) * randn(4, codes.shape[1] + 5)).sum(),
    "cat of itself": lambda codes: (torch.cat([codes, codes], 1) * randn(4, 2 * codes.shape[1])).sum(),
    "transpose": lambda codes: (codes.T.contiguous() * randn(codes.shape[1], 4)).sum(),
    "slice": lambda codes: (codes[:, 1::2] * randn(4, codes[:, 1::2].shape[1])).sum(),
    "flip": lambda codes: (codes.flip(1) * randn(4, codes.shape[1])).sum(),
    "chunk": lambda codes: sum((part * randn(*part.shape)).sum() for part in codes.chunk(3, 1)),
    "linear": lambda codes: (torch.nn.functional.linear(codes, randn(2, codes.shape[1])) * randn(4, 2)).sum(),
}
consumers = pytest.mark.parametrize("consume", CONSUMERS.values(), ids=CONSUMERS)


def _copies(what=""):
    return {event: count for event, count in spf_kernels.counters().items() if count and event.startswith(what)}


def _leaf(value):
    """A leaf with the layout of `value`."""
    return value.detach().requires_grad_()


def _assert_gradients_match(actual, expected, leaves, doubles):
    """float32 against a float64 loop of a few hundred products: 1e-5 of the largest value."""
    gradients = torch.autograd.grad(actual, leaves)
    exact = torch.autograd.grad(expected, doubles)
    for gradient, truth in zip([actual.detach(), *gradients], [expected.detach(), *exact], strict=True):
        assert torch.allclose(gradient.double(), truth.double(), rtol=0, atol=1e-5 * (1 + float(truth.abs().max())))


# name: the same numbers with other strides
KERNEL_LAYOUTS = {
    "batch and channels transposed": lambda t: t.transpose(0, 1).contiguous().transpose(0, 1),
    "slice of the channels": lambda t: torch.cat([t, t], 1)[:, : t.shape[1]],
    "a gap behind each row": lambda t: torch.cat([t, t], 2)[..., : t.shape[2]],
    "offset by one element": lambda t: torch.cat([t.new_zeros(1), t.flatten()])[1:].view(t.shape),
}


@pytest.mark.parametrize("change", KERNEL_LAYOUTS.values(), ids=KERNEL_LAYOUTS)
@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("pixels", [63, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.usefixtures("poisoned_outputs")
def test_operands_of_the_kernels(name, change, pixels, dtype):
    case = make_case((4, 2, 8, pixels), dtype, dtype, "tanh")
    offset = KERNEL_LAYOUTS["offset by one element"]
    # parameters are contiguous, but may start anywhere
    case = case._replace(maps=change(case.maps), codes=change(case.codes), weight=offset(case.weight))
    check_kernel(BACKEND, name, case._replace(decoder_bias=offset(case.decoder_bias)))


@map_layouts
def test_maps_in_flatten(make, copied):
    case = make_case((4, C, D, H * W), activation="tanh")
    maps, weight, bias = _leaf(make()), _leaf(case.weight), _leaf(case.encoder_bias)
    with torch.no_grad():
        spf_flatten(maps, weight, bias, "tanh")
    assert _copies() == ({f"maps copied: {copied}": 1} if copied else {})
    codes = spf_flatten(maps, weight, bias, "tanh")
    expected = encode_double_loop(maps, weight, bias, "tanh")
    upstream = randn(*codes.shape)
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
    layer = spf_kernels.SPFFlatten(C, (H, W), D, device=DEVICE)
    layer(make()).sum().backward()
    autoencoder = spf_kernels.SPFAutoencoder(C, (H, W), D, detach_target=False, device=DEVICE)
    assert _copies("maps") == ({f"maps copied: {copied}": 1} if copied else {})
    spf_kernels.reset_counters()
    codes, loss = autoencoder(make())
    (codes.sum() + loss).backward()
    assert _copies("maps") == ({f"maps copied: {copied}": 1} if copied else {})


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
        lambda: randn(4, C, H * W),
        lambda: randn(4, C, 1).expand(-1, -1, H * W),
        lambda: randn(C, 4, H * W).transpose(0, 1),
        lambda: randn(4, H * W, C).transpose(1, 2),
        lambda: randn(4, C, 2 * H * W)[..., ::2],
        lambda: torch.ones((), device=DEVICE).expand(4, C, H * W),
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
    upstream = randn(1).expand(4) if expand else randn(4)
    decoded = decode_double_loop(leaves[0], leaves[1], leaves[2], activation or "none")
    expected = (decoded - maps.double()).square().mean((1, 2))
    actual_gradients = torch.autograd.grad(loss, leaves, upstream)
    exact_gradients = torch.autograd.grad(expected, leaves, upstream.double())
    for gradient, truth in zip(actual_gradients, exact_gradients, strict=True):
        assert torch.allclose(gradient, truth.float(), rtol=1e-4, atol=1e-5)


# name: (codes, the stride between the numbers of one code): csrc reads any, the Triton kernels copy what is not 1
CODE_LAYOUTS = {
    "contiguous": (lambda: randn(4, C * D), 1),
    "transposed": (lambda: randn(C * D, 4).T, 4),
    "slice": (lambda: randn(4, C * D + 7)[:, 7:], 1),
    "one row": (lambda: randn(1, C * D).expand(4, -1), 1),
    "one column": (lambda: randn(4, 1).expand(-1, C * D), 0),
    "codes apart": (lambda: randn(4, D, C).transpose(1, 2), C),
    "every other": (lambda: randn(4, C, 2 * D)[..., ::2], 2),
    "every other row": (lambda: randn(8, C, D)[::2], 1),
}


@pytest.mark.parametrize(("make", "stride"), CODE_LAYOUTS.values(), ids=CODE_LAYOUTS)
def test_codes_of_any_strides(make, stride):
    case = make_case((4, C, D, H * W))
    weight, bias = case.weight, case.decoder_bias
    decoded = spf_reconstruct(make(), weight, bias)
    loss = spf_reconstruction_loss(make(), case.maps, weight, bias)
    expected = decode_double_loop(make().reshape(4, C, D), weight, bias, "none")
    assert torch.allclose(decoded, expected.float(), atol=1e-5)
    assert torch.allclose(loss, (expected - case.maps).square().mean().float(), rtol=1e-5)
    assert _copies() == ({f"codes copied: stride {stride}": 2} if NAME == "triton" and stride != 1 else {})


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
    layer = spf_kernels.SPFFlatten(C, (H, W), D, device=DEVICE)
    layer(MAP_LAYOUTS["channels_last"][0]())
    spf_kernels.counters().clear()
    assert sum(spf_kernels.counters().values()) == 1
    spf_kernels.reset_counters()
    assert spf_kernels.counters() == {}
