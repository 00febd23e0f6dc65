"""Folded weights and the loss of upsampled maps against torch's interpolation in float64."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from spf_kernels import SPFAutoencoder, SPFFlatten, fold_upsampling, upsampled_mse_loss
from spf_kernels.distributed import sharding
from spf_kernels.functional import spf_flatten
from spf_kernels.map_exchange import MapShards

from .helpers import EPS32, randn

B, C, D = 2, 3, 4
F64 = torch.float64
SIZES = [
    ((4, 4), (8, 8)),
    ((5, 7), (11, 13)),
    ((3, 5), (8, 5)),
    ((6, 6), (6, 6)),
    ((1, 1), (3, 4)),
    ((1, 6), (9, 1)),
    ((4, 6), (3, 2)),
    ((8, 8), (64, 64)),
]
sizes = pytest.mark.parametrize(("small", "large"), SIZES, ids=str)
corners = pytest.mark.parametrize("align_corners", [False, True])


def _upsample(maps, large, align_corners=False):
    return nn.functional.interpolate(maps, size=large, mode="bilinear", align_corners=align_corners)


def _weight(large, seed=1, dtype=F64):
    return randn(C, D, large[0] * large[1], dtype=dtype, seed=seed).requires_grad_()


def _maps(small, seed=2):
    return randn(B, C, *small, dtype=F64, seed=seed).requires_grad_()


def _close(actual, expected, tolerance=1e-11):
    return actual.shape == expected.shape and torch.allclose(actual, expected, rtol=tolerance, atol=tolerance)


@sizes
@corners
@pytest.mark.parametrize("activation", [None, "tanh"])
def test_codes_and_gradients_are_those_of_the_upsampled_maps(small, large, align_corners, activation):
    bias = randn(C, D, dtype=F64, seed=3)
    upstream = randn(B, C * D, dtype=F64, seed=4)
    ours, theirs = _maps(small), _maps(small)
    weight, expected_weight = _weight(large), _weight(large)
    codes = spf_flatten(ours, fold_upsampling(weight, small, large, align_corners), bias, activation)
    expected = spf_flatten(_upsample(theirs, large, align_corners), expected_weight, bias, activation)
    codes.backward(upstream)
    expected.backward(upstream)
    assert _close(codes, expected)
    assert _close(ours.grad, theirs.grad)
    assert _close(weight.grad, expected_weight.grad)


@sizes
@corners
def test_the_chain_rule(small, large, align_corners):
    weight = _weight(large)
    folded = fold_upsampling(weight, small, large, align_corners)
    upstream = randn(C, D, small[0] * small[1], dtype=F64, seed=5)
    folded.backward(upstream)
    assert _close(weight.grad, _upsample(upstream.unflatten(2, small), large, align_corners).flatten(2))


def test_same_size_changes_nothing():
    weight = _weight((5, 6))
    assert torch.equal(fold_upsampling(weight, (5, 6), (5, 6)), weight)


@corners
def test_derivatives_of_any_order(align_corners):
    def fold(weight):
        return fold_upsampling(weight, (2, 3), (5, 4), align_corners)

    weight = _weight((5, 4))
    assert torch.autograd.gradcheck(fold, weight)
    assert torch.autograd.gradgradcheck(fold, weight)


def test_scale_factors_that_are_no_integers():
    maps = _maps((6, 6))
    options = {"scale_factor": 1.7, "mode": "bilinear", "align_corners": False}
    upsampled = nn.functional.interpolate(maps, recompute_scale_factor=True, **options)
    weight = _weight((10, 10))
    assert _close(spf_flatten(maps, fold_upsampling(weight, 6, 10)), spf_flatten(upsampled, weight))


def test_the_sum_of_a_row_stays():
    weight = _weight((9, 12))
    assert _close(fold_upsampling(weight, (2, 5), (9, 12)).sum(2), weight.sum(2))


def test_strided_weights_and_gradients():
    weight = randn(D, 6 * 8, C, dtype=F64).permute(2, 0, 1).requires_grad_()
    folded = fold_upsampling(weight, 4, (6, 8))
    assert _close(folded, fold_upsampling(weight.detach().contiguous(), 4, (6, 8)))
    (gradient,) = torch.autograd.grad(folded.sum(), weight)
    assert _close(gradient, _upsample(torch.ones(C, D, 4, 4, dtype=F64), (6, 8)).flatten(2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("autocast", [False, True])
def test_low_precision_is_rounded_once(dtype, autocast):
    weight = _weight((24, 24), dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        folded = fold_upsampling(weight, 7, 24)
        folded.sum().backward()
    exact = fold_upsampling(weight.detach().double(), 7, 24)
    assert folded.dtype == weight.grad.dtype == dtype
    band = 16 * EPS32 * weight.detach().double().abs().sum(2, keepdim=True) / 49 + torch.finfo(dtype).eps * exact.abs()
    assert ((folded.double() - exact).abs() <= band).all()


class Allocations(TorchDispatchMode):
    """Bytes of whatever operators return, with the address of the storage."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, operator, types, arguments=(), options=None):
        result = operator(*arguments, **(options or {}))
        storages = [tensor.untyped_storage() for tensor in tree_leaves(result)]
        self.seen += [(storage.data_ptr(), storage.nbytes()) for storage in storages]
        return result

    def largest_but(self, *tensors):
        known = {tensor.untyped_storage().data_ptr() for tensor in tensors}
        return max(size for address, size in self.seen if address not in known)


def test_memory_is_that_of_a_few_maps():
    maps, small, large = 40, 4, 32
    weight = torch.ones(maps, D, large * large, requires_grad=True)
    with Allocations() as forward:
        folded = fold_upsampling(weight, small, large)
    upstream = torch.ones_like(folded)
    with Allocations() as backward:
        (gradient,) = torch.autograd.grad(folded, weight, upstream)
    of_a_map = D * large * large * weight.itemsize
    assert forward.largest_but(weight, folded) <= of_a_map
    assert backward.largest_but(upstream, gradient) <= of_a_map
    assert gradient.nbytes == maps * of_a_map


def test_shapes_without_memory():
    assert fold_upsampling(torch.empty(C, D, 64, device="meta"), 4, 8).shape == (C, D, 16)
    assert fold_upsampling(torch.empty(0, D, 64), 4, 8).shape == (0, D, 16)


def test_compiled():
    weight, other = _weight((8, 8)), _weight((8, 8))
    fold = torch.compile(lambda value: fold_upsampling(value, 4, 8), fullgraph=True, backend="aot_eager")
    for folded in (fold(weight), fold_upsampling(other, 4, 8)):
        folded.square().sum().backward()
    assert _close(weight.grad, other.grad)


@pytest.mark.parametrize(
    ("shape", "arguments", "message"),
    [
        ((C, D, 60), (4, 8), r"weight must have shape .*64 = 8 x 8 pixels.*got \(3, 4, 60\)"),
        ((D, 64), (4, 8), r"weight must have shape .*got \(4, 64\)"),
        ((C, D, 64), (0, 8), "map_size must be a positive integer, got 0"),
        ((C, D, 64), (4, (8, 8, 8)), r"upsampled_size must be an integer or \(height, width\), got \(8, 8, 8\)"),
        ((C, D, 64), (4, -8), "upsampled_size must be a positive integer, got -8"),
    ],
)
def test_errors(shape, arguments, message):
    with pytest.raises(ValueError, match=message):
        fold_upsampling(torch.zeros(shape), *arguments)


def test_integer_weights():
    with pytest.raises(TypeError, match=r"weight must be floating point, got torch\.int64"):
        fold_upsampling(torch.zeros(C, D, 64, dtype=torch.int64), 4, 8)


class TestModule:
    @corners
    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("activation", [None, "relu"])
    def test_same_codes(self, activation, bias, align_corners):
        encoder = SPFFlatten(C, (12, 15), D, activation, bias, dtype=F64, grad_mode="factored")
        folded = encoder.fold_upsampling((4, 5), align_corners)
        assert folded.map_size == (4, 5)
        assert folded.weight.shape == (C, D, 20)
        assert folded.grad_mode == "factored"
        assert all(parameter.is_leaf and parameter.requires_grad for parameter in folded.parameters())
        maps = _maps((4, 5))
        assert _close(folded(maps), encoder(_upsample(maps, (12, 15), align_corners)))

    def test_weights_are_its_own(self):
        encoder = SPFFlatten(C, 6, D)
        folded = encoder.fold_upsampling(6)
        nn.init.zeros_(folded.weight)
        nn.init.zeros_(folded.bias)
        assert encoder.weight.all()
        assert encoder.bias.all()

    def test_the_grid_of_upsampled_maps(self):
        encoder = SPFFlatten(C, 32, 16, dtype=F64, init="grid")
        maps = _maps((8, 8))
        expected = nn.functional.adaptive_avg_pool2d(_upsample(maps, (32, 32)), 4).flatten(1)
        assert _close(encoder.fold_upsampling(8)(maps), expected)

    def test_a_share_is_refused(self):
        encoder = SPFFlatten(C, 6, D)
        sharding._shard(encoder, MapShards(C, SimpleNamespace(size=lambda: 2, rank=lambda: 1)))
        with pytest.raises(ValueError, match="sharded"):
            encoder.fold_upsampling(3)


class TestLoss:
    @sizes
    @corners
    def test_is_the_loss_of_the_upsampled_maps(self, small, large, align_corners):
        tensors = [_maps(small, seed) for seed in (6, 7)]
        others = [tensor.detach().clone().requires_grad_() for tensor in tensors]
        loss = upsampled_mse_loss(*tensors, large, align_corners)
        expected = nn.functional.mse_loss(*(_upsample(tensor, large, align_corners) for tensor in others))
        loss.backward()
        expected.backward()
        assert _close(loss, expected)
        for ours, theirs in zip(tensors, others, strict=True):
            assert _close(ours.grad, theirs.grad)

    def test_trains_an_autoencoder(self):
        module = SPFAutoencoder(C, 6, D, "tanh", init="dct", dtype=F64)
        maps = _maps((6, 6)).detach()
        loss = upsampled_mse_loss(module.reconstruct(maps), maps, 48)
        loss.backward()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter -= 0.1 * parameter.grad
        assert upsampled_mse_loss(module.reconstruct(maps), maps, 48) < loss

    def test_derivatives(self):
        target = _maps((3, 2), 8).detach()
        assert torch.autograd.gradcheck(lambda maps: upsampled_mse_loss(maps, target, (7, 4)), _maps((3, 2)))

    @pytest.mark.parametrize("autocast", [False, True])
    def test_low_precision_is_summed_in_float32(self, autocast):
        pair = [_maps((8, 8), seed).detach().bfloat16() for seed in (6, 7)]
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = upsampled_mse_loss(*pair, 64)
        assert loss.dtype == torch.float32
        expected = upsampled_mse_loss(*(each.double() for each in pair), 64)
        assert abs(loss.double() - expected) <= 32 * EPS32 * expected

    def test_errors(self):
        maps = torch.zeros(B, C, 4, 4)
        with pytest.raises(ValueError, match=r"one shape .*got \(2, 3, 4, 4\) and \(2, 3, 4, 5\)"):
            upsampled_mse_loss(maps, torch.zeros(B, C, 4, 5), 8)
        with pytest.raises(ValueError, match=r"one shape .*got \(2, 3, 16\)"):
            upsampled_mse_loss(maps.flatten(2), maps.flatten(2), 8)
        with pytest.raises(ValueError, match="upsampled_size must be a positive integer, got 0"):
            upsampled_mse_loss(maps, maps, 0)
        with pytest.raises(TypeError, match=r"maps must be floating point, got torch\.int64"):
            upsampled_mse_loss(maps, maps.long(), 8)


def test_the_documented_code_runs():
    text = (Path(__file__).resolve().parents[2] / "docs" / "folding.md").read_text()
    names = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, names)
    upsampled = [_upsample(maps, 128) for maps in (names["autoencoder"].reconstruct(names["maps"]), names["maps"])]
    assert torch.allclose(names["loss"], nn.functional.mse_loss(*upsampled), rtol=1e-5)
