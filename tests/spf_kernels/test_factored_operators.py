"""What PyTorch's operators answer to a FactoredGrad, when it becomes dense, and what they may not do to it."""

import copy

import pytest
import torch
from torch import nn

from spf_kernels import FactoredGrad, counters

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
    make_folded,
    make_gradient,
    materialised,
    states,
)
from .helpers import make_case, truth


class TestKnownOperators:
    """The dense gradient is not made, and the result is the dense one's."""

    @pytest.mark.parametrize(
        "operation",
        [
            lambda g: g.clone(),
            lambda g: g.detach(),
            lambda g: g.data,
            lambda g: copy.deepcopy(g),
            lambda g: g.double().float(),
            lambda g: g.to("cpu", F32, copy=True),
            lambda g: g * 3,
            lambda g: 0.5 * g,
            lambda g: g * torch.tensor(2.5),
            lambda g: torch.tensor(2.5, dtype=F64) * g,
            lambda g: g / 7,
            lambda g: g / torch.tensor(7.0),
            lambda g: -g,
            lambda g: g + g,
            lambda g: torch.add(g, g, alpha=-3),
        ],
    )
    @pytest.mark.parametrize("rest", [False, True], ids=["factors", "rest"])
    def test_new_gradient(self, operation, rest):
        gradient = make_gradient(rest=rest)
        before = gradient.dense()
        result = operation(gradient)
        assert isinstance(result, FactoredGrad)
        assert (result.rest is None) != rest
        assert_close(result.dense(), operation(before))
        assert torch.equal(gradient.dense(), before)
        assert materialised() == 0

    @pytest.mark.parametrize(
        "operation",
        [
            lambda g: g.mul_(3),
            lambda g: g.mul_(torch.tensor(0.25)),
            lambda g: g.div_(3),
            lambda g: g.div_(torch.tensor(3.0)),
            lambda g: g.neg_(),
            lambda g: g.zero_(),
            lambda g: g.add_(
                make_gradient(3, seed=1) if isinstance(g, FactoredGrad) else make_gradient(3, seed=1).dense()
            ),
            lambda g: g.add_(as_dense(make_gradient(seed=1)), alpha=2),
            lambda g: torch._foreach_mul_([g], 3),
            lambda g: torch._foreach_mul_([g], torch.tensor(3.0)),
            lambda g: torch._foreach_div_([g], torch.tensor(3.0)),
            lambda g: torch._foreach_add_([g], [make_gradient(3, seed=1).dense()], alpha=2),
            lambda g: torch._foreach_zero_([g]),
            lambda g: g.detach().mul_(3),
            lambda g: g.detach().zero_(),
        ],
    )
    @states
    def test_in_place(self, operation, make):
        gradient = make()
        address, alias, expected = id(gradient), gradient.detach(), gradient.dense()
        folded = gradient.contents.is_folded
        operation(gradient)
        operation(expected)
        assert id(gradient) == address
        assert_close(gradient.dense(), expected)
        assert_close(alias.dense(), expected)
        # factors that are added to a dense gradient are multiplied out
        assert materialised() <= folded

    @pytest.mark.parametrize(
        "norm",
        [
            torch.norm,
            torch.Tensor.norm,
            torch.linalg.vector_norm,
            lambda g: torch.ops.aten.norm.Scalar(g, 2),
            lambda g: torch._foreach_norm([g])[0],
            lambda g: torch.linalg.vector_norm(g, 2.0, dtype=F64).float(),
        ],
    )
    def test_norms(self, norm):
        gradient = make_gradient()
        assert_close(norm(gradient), norm(gradient.dense()))
        assert materialised() == 0

    def test_lists_that_mix(self):
        torch.manual_seed(0)
        plain = [torch.randn(4), torch.randn(C, D, S)]
        gradients = [plain[0].clone(), make_gradient(), plain[1].clone(), make_gradient(rest=True)]
        expected = [as_dense(gradient).clone() for gradient in gradients]
        norms = torch._foreach_norm([*gradients[:3]])
        for ours, theirs in zip(norms, torch._foreach_norm(expected[:3]), strict=True):
            assert_close(ours, theirs)
        for operation in (
            lambda g: torch._foreach_mul_(g, torch.tensor(3.0)),
            lambda g: torch._foreach_div_(g, 2.0),
            lambda g: torch._foreach_add_(g, [torch.ones_like(each) for each in expected], alpha=2),
        ):
            operation(gradients)
            operation(expected)
        for ours, theirs in zip(gradients, expected, strict=True):
            assert_close(as_dense(ours), theirs)
        assert materialised() == 0

    def test_scaling_does_not_round_to_the_factors_dtype(self):
        gradient = make_gradient(dtype=BF16)
        exact = truth("outer", make_case((B, C, D, S), BF16))[0] / 3
        assert (gradient / 3).dense().double().sub(exact).norm() < 1e-6 * exact.norm()
        assert gradient.div_(3).dense().double().sub(exact).norm() < 1e-6 * exact.norm()

    def test_zeros_like_is_dense(self):
        assert torch.equal(torch.zeros_like(make_gradient()), torch.zeros(C, D, S))
        assert torch.zeros_like(make_gradient(), dtype=F64).dtype == F64
        assert torch.empty_like(make_gradient()).shape == (C, D, S)
        assert materialised() == 0

    def test_conversion(self):
        gradient = make_gradient(rest=True)
        assert gradient.bfloat16().dense().dtype == gradient.bfloat16().rest.dtype == BF16
        assert_close(gradient.double().dense(), gradient.dense().double())
        moved = make_gradient().to("meta")
        assert isinstance(moved, FactoredGrad)
        assert moved.device.type == moved.left.device.type == "meta"

    def test_sum_of_two_dtypes_of_factors(self):
        total = make_gradient(dtype=BF16) + make_gradient(seed=1)
        assert_close(total.dense(), make_gradient(dtype=BF16).dense() + make_gradient(seed=1).dense())


class TestBecomingDense:
    @pytest.mark.parametrize(
        "operation",
        [
            lambda g: g.abs(),
            lambda g: g[1],
            lambda g: g.view(-1),
            lambda g: g.transpose(0, 1),
            lambda g: g.sum(),
            lambda g: g.isfinite().all(),
            lambda g: g * torch.arange(S),
            lambda g: g - g,
            lambda g: g + 1,
            lambda g: g + torch.ones(C, D, S),
            lambda g: 1 / g,
            lambda g: torch.linalg.vector_norm(g, 1),
            lambda g: torch.linalg.vector_norm(g, dim=2),
            lambda g: torch._foreach_norm([g], float("inf"))[0],
            lambda g: torch._foreach_add([torch.ones(C, D, S)], [g])[0],
            lambda g: torch.ones(C, D, S).add_(g),
            lambda g: torch.ones(C, D, S).lerp_(g, 0.5),
            lambda g: torch.ones(C, D, S).copy_(g),
            lambda g: torch.stack([g, g]),
            lambda g: torch.einsum("cds,cds->c", g, g),
            lambda g: g.to(torch.int32),
            lambda g: nn.functional.relu(g),
        ],
    )
    @pytest.mark.parametrize("rest", [False, True], ids=["factors", "rest"])
    def test_other_operators_read_the_dense_gradient(self, operation, rest):
        gradient = make_gradient(rest=rest)
        expected = operation(gradient.dense())
        result = operation(gradient)
        assert type(result) is torch.Tensor
        assert torch.equal(result, expected)
        assert materialised() == 1
        # and keep it: nothing is computed twice
        assert torch.equal(operation(gradient), expected)
        assert materialised() == 1
        assert gradient.left.shape[0] == 0
        assert torch.equal(gradient.rest, gradient.dense())

    def test_the_counter_names_the_operator(self):
        make_gradient().sigmoid()
        assert counters() == {f"{PREFIX}aten.sigmoid.default": 1}

    def test_views_stay_views(self):
        gradient = make_gradient()
        flat, expected = gradient.view(-1), gradient.dense()
        flat[:7] = 0
        expected.view(-1)[:7] = 0
        assert torch.equal(gradient.dense(), expected)
        for operation in (lambda g, more: g.add_(more), lambda g, _: g.mul_(2), lambda g, _: g.zero_()):
            operation(gradient, make_gradient(seed=1))
            operation(expected, make_gradient(seed=1).dense())
            assert_close(flat, expected.view(-1))

    def test_what_is_made_of_a_dense_one_is_plain(self):
        gradient = make_folded()
        for result in (gradient.clone(), gradient * 2, -gradient, gradient.double(), gradient + make_gradient(seed=1)):
            assert type(result) is torch.Tensor
        # the right-hand side of the sum
        assert materialised() == 1

    def test_accumulation_stops_growing(self):
        gradient, expected = make_gradient(3), make_gradient(3).dense()
        for seed in range(1, 6):
            gradient.add_(make_gradient(3, seed=seed))
            expected += make_gradient(3, seed=seed).dense()
            assert gradient.left.shape[0] * (D + S) < D * S
        assert_close(gradient.dense(), expected)
        event = "accumulated factors as large as the dense gradient"
        assert counters() == {f"{PREFIX}{event}": 1, f"{PREFIX}a sum with a gradient that is dense already": 4}

    def test_a_large_first_batch_stays_factored(self):
        gradient = make_gradient(0)
        gradient.add_(make_gradient(20))
        assert gradient.left.shape[0] == 20
        assert_close(gradient.dense(), make_gradient(20).dense())

    def test_strict(self, monkeypatch):
        monkeypatch.setenv("SPF_FACTORED_STRICT", "1")
        gradient, dense = make_gradient(), torch.zeros(C, D, S)
        for operation in (torch.abs, lambda g: dense.add_(g), lambda g: torch._foreach_add_([dense], [g])):
            with pytest.raises(RuntimeError, match=r"SPF_FACTORED_STRICT=1 forbids .*aten"):
                operation(gradient)
        with pytest.raises(RuntimeError, match=r"SPF_FACTORED_STRICT=1 forbids .*accumulated"):
            gradient.add_(make_gradient(7, seed=1))
        assert gradient.rest is None
        assert torch.equal(gradient.dense(), make_gradient().dense())
        assert not dense.any()
        assert counters() == {}
        assert gradient.mul_(2).add_(make_gradient()).norm() > 0


def _sort_into(gradient):
    torch.sort(torch.ones(C, D, S), out=(gradient, torch.empty(C, D, S, dtype=torch.int64)))


WRITES = {
    "clamp_": lambda g, _: g.clamp_(min=0),
    "fill_": lambda g, _: g.fill_(0),
    "number": lambda g, _: g.add_(1),
    "broadcast": lambda g, _: g.add_(torch.ones(S)),
    "matrix": lambda g, dense: g.mul_(dense),
    "copy_": lambda g, dense: g.copy_(dense),
    "uniform_": lambda g, _: g.uniform_(),
    "resize_": lambda g, _: g.resize_(C),
    "transpose_": lambda g, _: g.transpose_(0, 1),
    "out": lambda g, dense: torch.add(dense, 1, out=g),
    "out tuple": lambda g, _: _sort_into(g),
    "foreach numbers": lambda g, dense: torch._foreach_add_([dense, g], 1.0),
    "foreach number list": lambda g, dense: torch._foreach_mul_([dense, g], [1.0, 2.0]),
    "foreach tensors": lambda g, dense: torch._foreach_mul_([dense, g], [dense, dense]),
    "foreach broadcast": lambda g, dense: torch._foreach_add_([dense, g], [dense, torch.ones(S)]),
    "foreach one value": lambda g, dense: torch._foreach_mul_([dense, g], torch.ones(1)),
    "foreach clamp": lambda g, dense: torch._foreach_clamp_min_([dense, g], 0.0),
    "foreach addcmul": lambda g, dense: torch._foreach_addcmul_([dense, g], [dense] * 2, [dense] * 2, 1.0),
    "foreach copy": lambda g, dense: torch._foreach_copy_([dense, g], [dense, dense]),
    "index": lambda g, _: g.index_put_((torch.tensor([0]),), torch.zeros(())),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@states
def test_other_writes_are_refused(write, make):
    gradient = make()
    dense = torch.randn(C, D, S, generator=torch.Generator().manual_seed(7))
    before, dense_before = gradient.dense(), dense.clone()
    with pytest.raises(
        RuntimeError, match=r"aten\.\w+\.\w+ would write to a factored gradient .*weight.grad.dense\(\)"
    ):
        write(gradient, dense)
    assert torch.equal(gradient.dense(), before)
    assert torch.equal(dense, dense_before)


class TestNonFiniteFactors:
    """GradScaler's operator must find exactly what it finds in the dense gradient."""

    def _unscale(self, gradient):
        found, scale = torch.zeros(1), torch.full((), 0.5)
        torch._amp_foreach_non_finite_check_and_unscale_([gradient, torch.ones(3)], found, scale)
        return bool(found)

    @pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
    @pytest.mark.parametrize("factor", [0, 1], ids=["left", "right"])
    @pytest.mark.parametrize("rest", [False, True], ids=["factors", "rest"])
    def test_found(self, factor, value, rest):
        factors = make_factors()
        factors[factor][1, 2, 3] = value
        assert self._unscale(FactoredGrad(*factors, F32, torch.ones(C, D, S) if rest else None))
        assert materialised() == rest

    def test_a_rest_counts(self):
        gradient = make_gradient(rest=True)
        gradient.rest[0, 0, 0] = float("nan")
        assert self._unscale(gradient)

    @pytest.mark.parametrize(("size", "found"), [(1e18, False), (1.5e19, None), (1e25, True)])
    def test_finite_factors_with_large_products(self, size, found):
        left, right = torch.full((1, C, D), size), torch.full((1, C, S), size)
        expected = bool((left[0, 0, 0] * right[0, 0, 0]).isinf())
        assert found is None or found == expected
        assert self._unscale(FactoredGrad(left, right, F32)) == expected

    @pytest.mark.parametrize("rest", [False, True], ids=["factors", "rest"])
    def test_not_found(self, rest):
        gradient = make_gradient(rest=rest)
        expected = gradient.dense() * 0.5
        assert not self._unscale(gradient)
        assert_close(gradient.dense(), expected)
