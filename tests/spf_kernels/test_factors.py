"""FactoredGrad as a tensor: the gradient it stands for, its norm, how long it may live, and how it is saved."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

import spf_kernels
from spf_kernels import FactoredGrad, SPFFlatten, counters
from spf_kernels.functional import spf_flatten, spf_reconstruct, spf_reconstruction_loss

from .factored_helpers import (
    BF16,
    F32,
    F64,
    PREFIX,
    B,
    C,
    D,
    S,
    as_dense,
    assert_close,
    make_factors,
    make_gradient,
    materialised,
    states,
)
from .helpers import DTYPES, assert_within_budget, competitor, magnitudes, make_case, truth


class TestTensor:
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("weight_dtype", DTYPES, ids=str)
    def test_dense_within_the_budget(self, dtype, weight_dtype):
        case = make_case((13, C, 17, 49), dtype, weight_dtype)
        gradient = FactoredGrad(case.codes, case.maps, weight_dtype)
        assert gradient.dtype == weight_dtype
        assert (gradient.left.dtype, gradient.right.dtype) == (dtype, dtype)
        exact, rival, magnitude = (f("outer", case)[0] for f in (truth, competitor, magnitudes))
        assert_within_budget(gradient.dense(), rival, exact, magnitude)
        assert_within_budget((gradient + gradient).dense(), rival * 2, exact * 2, magnitude * 2)

    def test_is_a_tensor_of_the_weights_shape(self):
        gradient = make_gradient()
        assert isinstance(gradient, torch.Tensor)
        assert gradient.shape == (C, D, S)
        assert gradient.is_contiguous()
        assert gradient.numel() == C * D * S
        assert not gradient.requires_grad
        assert gradient.rest is None
        assert materialised() == 0

    def test_representation_reads_nothing(self):
        assert repr(make_gradient()) == (
            "FactoredGrad(shape=(3, 8, 64), dtype=torch.float32, device='cpu', factors of 2 samples)"
        )
        assert str(make_gradient(rest=True)).endswith("factors of 2 samples, with a dense rest)")
        assert materialised() == 0

    @states
    def test_dense_is_a_new_tensor(self, make):
        gradient = make()
        before = gradient.dense()
        gradient.dense().zero_()
        assert torch.equal(gradient.dense(), before)
        assert type(before) is torch.Tensor
        assert materialised() == 0

    def test_keeps_no_graph(self):
        left, right = (factor.requires_grad_() * 2 for factor in make_factors())
        gradient = FactoredGrad(left, right, F32)
        assert gradient.left.grad_fn is None
        assert not gradient.right.requires_grad
        assert gradient.right.data_ptr() == right.data_ptr()

    def test_has_no_address(self):
        with pytest.raises(RuntimeError, match="no elements in memory"):
            make_gradient().data_ptr()

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"left": torch.zeros(2, 3)}, ValueError, r"left must have shape .* got \(2, 3\)"),
            ({"right": torch.zeros(2, 4, 5)}, ValueError, r"right must have shape \(2, 3, 'pixels'\), got \(2, 4, 5\)"),
            ({"right": torch.zeros(2, 3)}, ValueError, r"right must have shape .* got \(2, 3\)"),
            ({"right": torch.zeros(2, 3, 5, device="meta")}, ValueError, "right must be on .*cpu.* got meta"),
            ({"left": torch.zeros(2, 3, 4, dtype=torch.int64)}, TypeError, "left must be .* got torch.int64"),
            ({"dtype": torch.int32}, TypeError, "dtype must be .* got torch.int32"),
            ({"rest": torch.zeros(3, 5, 4)}, ValueError, r"rest must have shape \(3, 4, 5\) .* got \(3, 5, 4\)"),
            ({"rest": torch.zeros(3, 4, 5, dtype=F64)}, TypeError, "rest must have .*float32, got torch.float64"),
        ],
    )
    def test_wrong_arguments(self, change, error, message):
        arguments = {"left": torch.zeros(2, 3, 4), "right": torch.zeros(2, 3, 5), "dtype": F32, **change}
        with pytest.raises(error, match=message):
            FactoredGrad(**arguments)


class TestSquareNorm:
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_of_factors(self, dtype):
        gradient = make_gradient(5, dtype)
        exact = truth("outer", make_case((5, C, D, S), dtype))[0].square().sum()
        assert gradient.square_norm().dtype == F64
        assert torch.allclose(gradient.square_norm(), exact, rtol=1e-12)
        assert materialised() == 0

    def test_in_parts(self, monkeypatch):
        monkeypatch.setattr("spf_kernels.factors._WIDENED_ON_CPU", 1)
        self.test_of_factors(F32)

    def test_of_samples_that_cancel(self):
        left, right = make_factors(1)
        gradient = FactoredGrad(torch.cat([left, -left]), torch.cat([right, right]), F32)
        assert 0 <= gradient.square_norm() <= 1e-20 * make_gradient(1).square_norm()

    @pytest.mark.parametrize("make", [lambda: make_gradient(rest=True), lambda: make_gradient(8)], ids=["rest", "many"])
    def test_where_the_dense_gradient_is_needed(self, make):
        gradient = make()
        expected = gradient.dense().double().square().sum()
        assert torch.allclose(gradient.square_norm(), expected, rtol=1e-6)
        assert counters() == {f"{PREFIX}square_norm": 1}

    def test_of_nothing(self):
        assert make_gradient(0).square_norm() == 0


class TestOutlivingTheBackward:
    @pytest.mark.parametrize(
        "use",
        [
            lambda g: g.dense(),
            lambda g: g.left,
            lambda g: g.right,
            lambda g: g.norm(),
            lambda g: g.square_norm(),
            lambda g: g.mul_(2),
            lambda g: g * 2,
            lambda g: g.clone(),
            lambda g: g.abs(),
            lambda g: g.add_(make_gradient(seed=1)),
            lambda g: torch.zeros(C, D, S).add_(g),
            lambda g: pickle.dumps(g),
        ],
    )
    @pytest.mark.parametrize("factor", [0, 1], ids=["left", "right"])
    def test_changed_factors_are_noticed(self, use, factor):
        factors = make_factors()
        gradient = FactoredGrad(*factors, F32)
        factors[factor].add_(1)
        name = ("left", "right")[factor]
        with pytest.raises(RuntimeError, match=rf"factor {name} \(2, 3, .*changed in place.*maps\.clone\(\)"):
            use(gradient)

    def test_changes_through_views_and_aliases_are_noticed(self):
        left, right = make_factors()
        for change in (lambda: right[0].zero_(), lambda: right.detach().mul_(2), lambda: right.view(-1)[:3].fill_(1)):
            gradient = FactoredGrad(left, right, F32)
            change()
            with pytest.raises(RuntimeError, match="changed in place"):
                gradient.dense()

    def test_what_needs_no_factors_goes_on(self):
        left, right = make_factors()
        gradient = FactoredGrad(left, right, F32)
        right.zero_()
        assert "2 samples" in repr(gradient)
        gradient.zero_()
        assert not gradient.dense().any()

    @pytest.mark.parametrize("make_copy", [lambda g: g.clone(), copy.deepcopy, lambda g: g.double()])
    def test_copies_are_independent(self, make_copy):
        left, right = make_factors()
        gradient = FactoredGrad(left, right, F32)
        duplicate, before = make_copy(gradient), gradient.dense()
        gradient.mul_(3)
        right.zero_()
        assert_close(duplicate.dense().float(), before)

    def test_inference_tensors_have_no_version(self):
        with torch.inference_mode():
            gradient = FactoredGrad(*make_factors(), F32)
            gradient.mul_(2)
        assert_close(gradient.dense(), make_gradient().dense() * 2)

    @pytest.mark.parametrize("function", ["flatten", "reconstruct"])
    def test_feature_maps_and_codes_changed_before_the_step(self, function):
        case = make_case((B, C, D, S))
        weight = case.weight.requires_grad_()
        source = case.maps if function == "flatten" else case.codes
        call = spf_flatten if function == "flatten" else spf_reconstruct
        call(source, weight, grad_mode="factored").sum().backward()
        optimizer = torch.optim.SGD([weight], lr=1.0)
        source.copy_(torch.zeros_like(source))
        before = weight.detach().clone()
        with pytest.raises(RuntimeError, match="changed in place after the backward"):
            optimizer.step()
        assert torch.equal(weight, before)
        optimizer.zero_grad(set_to_none=False)
        assert not weight.grad.dense().any()


class TestFiles:
    @states
    def test_pickled_it_is_dense(self, make):
        gradient = make()
        loaded = pickle.loads(pickle.dumps(gradient))
        assert type(loaded) is torch.Tensor
        assert torch.equal(loaded, gradient.dense())

    def test_saved_it_is_dense(self):
        file = io.BytesIO()
        torch.save({"gradient": make_gradient()}, file)
        file.seek(0)
        assert torch.equal(torch.load(file, weights_only=True)["gradient"], make_gradient().dense())

    def test_a_module_is_copied_and_pickled_without_gradients_as_ever(self):
        layer = SPFFlatten(C, 8, D, grad_mode="factored")
        layer(torch.randn(B, C, 8, 8)).sum().backward()
        for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            assert other.weight.grad is None
            assert other.grad_mode == "factored"
            other(torch.randn(B, C, 8, 8)).sum().backward()
            assert isinstance(other.weight.grad, FactoredGrad)

    def test_a_deep_copied_gradient_keeps_its_identity(self):
        gradient = make_gradient()
        first, second = copy.deepcopy([gradient, gradient])
        assert first is second is not gradient

    @pytest.mark.parametrize("dtype", [F64, BF16], ids=str)
    def test_moves_with_its_module(self, dtype):
        layer = SPFFlatten(C, 8, D, grad_mode="factored")
        layer(torch.randn(B, C, 8, 8)).sum().backward()
        expected = layer.weight.grad.dense()
        layer.to(dtype)
        assert layer.weight.grad.dtype == layer.weight.grad.dense().dtype == dtype
        assert torch.allclose(layer.weight.grad.dense().float(), expected, rtol=0.01, atol=1e-3)

    def test_data_cannot_be_set_to_a_dense_tensor(self):
        gradient = make_gradient()
        with pytest.raises(RuntimeError, match="can only be set to another one"):
            gradient.data = torch.zeros(C, D, S)


class TestFunctional:
    """grad_mode of the functions, straight against the dense gradient."""

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("weight_dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("activation", ["none", "tanh"])
    @pytest.mark.parametrize("name", ["flatten", "reconstruct", "loss"])
    def test_same_gradients_as_dense(self, name, activation, dtype, weight_dtype):
        gradients = []
        for mode in ("dense", "factored"):
            case = make_case((5, C, 7, 30), dtype, weight_dtype, activation)
            leaves = [value.requires_grad_() for value in (case.codes, case.maps, case.weight, case.decoder_bias)]
            codes, maps, weight, bias = leaves
            if name == "flatten":
                spf_flatten(maps, weight, None, activation, grad_mode=mode).float().square().sum().backward()
            elif name == "reconstruct":
                spf_reconstruct(codes, weight, bias, activation, grad_mode=mode).float().square().sum().backward()
            else:
                spf_reconstruction_loss(
                    codes, maps, weight, bias, activation, detach_target=False, grad_mode=mode
                ).backward()
            assert isinstance(weight.grad, FactoredGrad) == (mode == "factored")
            gradients.append([as_dense(leaf.grad) for leaf in leaves if leaf.grad is not None])
        for dense, factored in zip(*gradients, strict=True):
            assert torch.equal(dense, factored)
        assert materialised() == 0

    @pytest.mark.parametrize("mode", ["sparse", "", None, "Dense"])
    def test_unknown_modes(self, mode):
        case = make_case((B, C, D, S))
        for call in (
            lambda: spf_flatten(case.maps, case.weight, grad_mode=mode),
            lambda: spf_reconstruct(case.codes, case.weight, grad_mode=mode),
            lambda: spf_reconstruction_loss(case.codes, case.maps, case.weight, grad_mode=mode),
            lambda: SPFFlatten(C, 8, D, grad_mode=mode),
            lambda: spf_kernels.SPFDecoder(C, 8, D, grad_mode=mode),
            lambda: spf_kernels.SPFAutoencoder(C, 8, D, grad_mode=mode),
            lambda: SPFFlatten.from_linears([nn.Linear(4, 2)], grad_mode=mode),
        ):
            with pytest.raises(ValueError, match=rf"grad_mode must be one of \('dense', 'factored'\), got {mode!r}"):
                call()

    def test_factors_are_the_tensors_themselves(self):
        case = make_case((B, C, D, S))
        weight = case.weight.requires_grad_()
        spf_flatten(case.maps, weight, grad_mode="factored").sum().backward()
        assert weight.grad.right.data_ptr() == case.maps.data_ptr()

    def test_meta_device(self):
        layer = SPFFlatten(C, 8, D, device="meta", grad_mode="factored")
        layer(torch.empty(B, C, 8, 8, device="meta")).sum().backward()
        assert isinstance(layer.weight.grad, FactoredGrad)
        assert layer.weight.grad.dense().shape == (C, D, S)

    def test_empty_batch(self):
        layer = SPFFlatten(C, 8, D, grad_mode="factored")
        layer(torch.empty(0, C, 8, 8)).sum().backward()
        assert torch.equal(layer.weight.grad.dense(), torch.zeros(C, D, S))
        assert layer.weight.grad.norm() == 0
