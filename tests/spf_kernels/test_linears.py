"""Against the naive loop over nn.Linear, moved in and out with `from_linears` and `to_linears`."""

import pytest
import torch
from torch import nn

from spf_kernels import SPFAutoencoder, SPFFlatten

from .helpers import DEVICE, decode_loop, encode_loop, randn

C, D, H, W = 4, 5, 6, 7
S = H * W
ACTIVATIONS = [None, "relu", "tanh", "sigmoid"]
backends = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["default", "reference"])


def _linears(fan_in, fan_out, bias=True, dtype=torch.float32, count=C):
    torch.manual_seed(3)
    return [nn.Linear(fan_in, fan_out, bias, dtype=dtype).to(DEVICE) for _ in range(count)]


def _maps(dtype=torch.float32):
    return randn(3, C, H, W, dtype=dtype, seed=0).requires_grad_()


def _close(actual, expected):
    # of the largest element: a small one is the difference of large ones, and carries their rounding
    tolerance = (1e-6 if actual.dtype == torch.float32 else 1e-14) * expected.detach().abs().max()
    return actual.dtype == expected.dtype and bool(((actual - expected).abs() <= tolerance).all())


def _stacked_gradients(linears, transpose=False):
    weights = torch.stack([linear.weight.grad.T if transpose else linear.weight.grad for linear in linears])
    return weights, None if linears[0].bias is None else torch.stack([linear.bias.grad for linear in linears])


def _assert_layer_gradients(layer, linears, transpose=False):
    weight, bias = _stacked_gradients(linears, transpose)
    assert _close(layer.weight.grad, weight)
    assert bias is None or _close(layer.bias.grad, bias)


@backends
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_flatten_is_the_loop_forwards_and_backwards(activation, bias, dtype):
    linears = _linears(S, D, bias, dtype)
    layer = SPFFlatten.from_linears(linears, activation, (H, W))
    assert (layer.bias is not None) == bias
    ours, theirs = _maps(dtype), _maps(dtype)
    codes, expected = layer(ours), encode_loop(theirs, linears, activation)
    assert _close(codes, expected)
    codes.square().sum().backward()
    expected.square().sum().backward()
    assert _close(ours.grad, theirs.grad)
    _assert_layer_gradients(layer, linears)


@backends
@pytest.mark.parametrize("detach_target", [True, False])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("activation", "decoder_activation"), [(None, None), ("relu", "sigmoid"), ("tanh", "relu")])
def test_autoencoder_is_the_loop_forwards_and_backwards(
    activation, decoder_activation, reduction, detach_target, dtype
):
    encoders, decoders = _linears(S, D, dtype=dtype), _linears(D, S, dtype=dtype)
    autoencoder = SPFAutoencoder.from_linears(
        encoders, decoders, activation, decoder_activation, (H, W), reduction, detach_target
    )
    ours, theirs = _maps(dtype), _maps(dtype)
    codes, loss = autoencoder(ours)
    expected_codes = encode_loop(theirs, encoders, activation)
    decoded = decode_loop(expected_codes, decoders, decoder_activation)
    target = theirs.detach() if detach_target else theirs
    squares = (decoded - target.flatten(2)).square()
    expected_loss = {"mean": squares.mean(), "sum": squares.sum(), "none": squares.mean((1, 2))}[reduction]
    assert _close(codes, expected_codes)
    assert _close(loss, expected_loss)
    assert _close(autoencoder.reconstruct(ours), decoded.view(3, C, H, W))
    # different upstream gradients for every sample
    factors = torch.tensor([1.0, -2.0, 0.5] if reduction == "none" else 3.0, dtype=dtype, device=DEVICE)
    ((loss * factors).sum() + codes.sum()).backward()
    ((expected_loss * factors).sum() + expected_codes.sum()).backward()
    assert _close(ours.grad, theirs.grad)
    _assert_layer_gradients(autoencoder.encoder, encoders)
    _assert_layer_gradients(autoencoder.decoder, decoders, transpose=True)


@pytest.mark.parametrize("bias", [True, False])
def test_flatten_goes_back_to_the_same_linears(bias):
    linears = _linears(S, D, bias)
    layer = SPFFlatten.from_linears(linears, map_size=(H, W))
    _assert_same_linears(layer.to_linears(), linears)
    with torch.no_grad():
        layer.to_linears()[0].weight.zero_()
    _assert_same_linears(layer.to_linears(), linears)


@pytest.mark.parametrize(("encoder_bias", "decoder_bias"), [(True, True), (False, True), (True, False)])
def test_autoencoder_goes_back_to_the_same_linears(encoder_bias, decoder_bias):
    encoders, decoders = _linears(S, D, encoder_bias), _linears(D, S, decoder_bias)
    autoencoder = SPFAutoencoder.from_linears(encoders, decoders, map_size=(H, W))
    back_encoders, back_decoders = autoencoder.to_linears()
    _assert_same_linears(back_encoders, encoders)
    _assert_same_linears(back_decoders, decoders)
    assert all(parameter.device.type == DEVICE.type for parameter in autoencoder.parameters())


def _assert_same_linears(actual, expected):
    assert len(actual) == len(expected)
    for ours, theirs in zip(actual, expected, strict=True):
        assert torch.equal(ours.weight, theirs.weight)
        assert (ours.bias is None) == (theirs.bias is None)
        assert ours.bias is None or torch.equal(ours.bias, theirs.bias)


def test_from_linears_copies():
    linears = _linears(S, D)
    layer = SPFFlatten.from_linears(linears, map_size=(H, W))
    before = layer.weight.detach().clone()
    with torch.no_grad():
        linears[0].weight.zero_()
    assert torch.equal(layer.weight, before)


def test_dtype_follows_the_linears():
    layer = SPFFlatten.from_linears(_linears(16, 3, dtype=torch.bfloat16))
    assert layer.weight.dtype == torch.bfloat16
    assert layer.map_size == (4, 4)
    assert layer.to_linears()[0].weight.dtype == torch.bfloat16


def test_initialisation_is_that_of_linears():
    torch.manual_seed(0)
    autoencoder = SPFAutoencoder(8, 10, 25)
    for parameter, fan_in in [
        (autoencoder.encoder.weight, 100),
        (autoencoder.encoder.bias, 100),
        (autoencoder.decoder.weight, 25),
        (autoencoder.decoder.bias, 25),
    ]:
        bound = fan_in**-0.5
        assert parameter.abs().max() <= bound
        # of a uniform distribution; five standard errors of the mean, and of the standard deviation
        assert abs(parameter.mean()) < 5 * bound / (3 * parameter.numel()) ** 0.5
        assert abs(parameter.std() / bound * 3**0.5 - 1) < 5 * (0.2 / parameter.numel()) ** 0.5


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: SPFFlatten.from_linears([]), ValueError, "linears must hold at least one nn.Linear"),
        (
            lambda: SPFFlatten.from_linears([nn.Linear(4, 2), nn.Conv2d(1, 1, 1)]),
            TypeError,
            r"linears\[1\] must be an nn.Linear, got Conv2d",
        ),
        (
            lambda: SPFFlatten.from_linears([nn.Linear(4, 2), nn.Linear(4, 3)]),
            ValueError,
            r"linears\[1\] must be like linears\[0\] .*out_features=3",
        ),
        (
            lambda: SPFFlatten.from_linears([nn.Linear(4, 2), nn.Linear(4, 2, bias=False)]),
            ValueError,
            r"linears\[1\] must be like linears\[0\] .*bias=False",
        ),
        (lambda: SPFFlatten.from_linears([nn.Linear(6, 2)]), ValueError, "map_size must be given: 6 pixels"),
        (
            lambda: SPFFlatten.from_linears([nn.Linear(6, 2)], map_size=(2, 4)),
            ValueError,
            r"map_size must have 6 pixels, got \(2, 4\)",
        ),
        (
            lambda: SPFFlatten.from_linears([nn.Linear(4, 2)], activation="gelu"),
            ValueError,
            "activation must be .* got 'gelu'",
        ),
        (lambda: SPFAutoencoder.from_linears([nn.Linear(4, 2)], []), ValueError, "decoders must hold at least one"),
        (
            lambda: SPFAutoencoder.from_linears([nn.Linear(4, 2)], [nn.Linear(2, 5)]),
            ValueError,
            r"decoders must undo the encoders' .*\(1, 2, 4\), got \(1, 2, 5\)",
        ),
        (
            lambda: SPFAutoencoder.from_linears([nn.Linear(4, 2)], [nn.Linear(2, 4)] * 2),
            ValueError,
            r"decoders must undo .* got \(2, 2, 4\)",
        ),
        (
            lambda: SPFAutoencoder.from_linears([nn.Linear(4, 2)], [nn.Linear(2, 4)], reduction="max"),
            ValueError,
            "reduction must be one of .* got 'max'",
        ),
    ],
)
def test_linears_that_do_not_fit_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_linears_of_different_dtypes_are_refused():
    with pytest.raises((ValueError, TypeError), match=r"linears\[1\]"):
        SPFFlatten.from_linears([nn.Linear(4, 2), nn.Linear(4, 2, dtype=torch.float64)])
