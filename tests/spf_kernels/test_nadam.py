"""The NAdam kernel: numbers against float64, random rounding bit by bit, layouts, threads, and what autograd sees."""

from typing import NamedTuple

import pytest
import torch

import spf_kernels
from spf_kernels import ops
from spf_kernels.backends import reference

from .helpers import BACKEND, DEVICE, NAME, assert_within_budget, needs_kernels, randn

pytestmark = needs_kernels

F32, BF16, F64 = torch.float32, torch.bfloat16, torch.float64
# tails of all vectors and tiles, odd rows, blocks longer and shorter than a row
SIZES = [(1, 1, 1, 1), (3, 2, 5, 33), (7, 3, 2, 63), (12, 2, 33, 64), (13, 1, 3, 1100), (40, 1, 5, 515), (0, 2, 3, 70)]
sizes_of_all_kinds = pytest.mark.parametrize("sizes", SIZES, ids=str)
forms = pytest.mark.parametrize("form", ["factored", "dense"])
DTYPES = [(F32, F32), (F32, BF16), (BF16, F32), (BF16, BF16)]
dtypes = pytest.mark.parametrize(("weight_dtype", "state_dtype"), DTYPES, ids=str)


class Numbers(NamedTuple):
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    weight_factor: float = 1.0
    gradient_step: float = 2e-3
    momentum_step: float = 3e-3
    bias_correction2: float = 0.02
    maximize: bool = False
    noise_key: int = 0x9E3779B9


# sums and products of these and of multiples of 1/8 are exact in float32
EXACT = Numbers(beta1=0.5, beta2=0.75)


def make_state(sizes, weight_dtype=F32, state_dtype=F32):
    """Weight, momentum, variance (C, D, S) and the factors left (B, C, D), right (B, C, S)."""
    B, C, D, S = sizes
    weight, momentum, variance = (randn(C, D, S, seed=seed) for seed in (1, 2, 3))
    left, right = randn(B, C, D, seed=4), randn(B, C, S, seed=5)
    return weight.to(weight_dtype), (0.1 * momentum).to(state_dtype), (variance**2).to(state_dtype), left, right


def gradient_of(left, right):
    return torch.einsum("bcd,bcs->cds", left, right)


def step(backend, form, weight, momentum, variance, left, right, numbers):
    """Weight, momentum and variance after the step; the arguments stay."""
    state = [tensor.clone() for tensor in (weight, momentum, variance)]
    if form == "factored":
        backend.nadam_factored_(*state, left, right, *numbers)
    else:
        backend.nadam_dense_(*state, gradient_of(left, right).to(weight.dtype), *numbers)
    return state


def torch_step(weight, momentum, variance, gradient, numbers):
    """The operations of torch.optim.NAdam's loop, in the dtype of the arguments."""
    weight, momentum, variance = weight.clone(), momentum.clone(), variance.clone()
    gradient = -gradient if numbers.maximize else gradient
    weight.mul_(numbers.weight_factor)
    gradient = gradient.add(weight, alpha=numbers.weight_decay)
    momentum.lerp_(gradient, 1 - numbers.beta1)
    variance.mul_(numbers.beta2).addcmul_(gradient, gradient, value=1 - numbers.beta2)
    denominator = variance.div(numbers.bias_correction2).sqrt().add_(numbers.epsilon)
    weight.addcdiv_(gradient, denominator, value=-numbers.gradient_step)
    weight.addcdiv_(momentum, denominator, value=-numbers.momentum_step)
    return weight, momentum, variance


OPTIONS = {
    "plain": Numbers(),
    "weight decay": Numbers(weight_decay=0.1),
    "decoupled": Numbers(weight_factor=0.9),
    "maximize": Numbers(maximize=True, weight_decay=0.1),
    "no momentum": Numbers(beta1=0.0, beta2=0.0, bias_correction2=1.0),
}


@pytest.mark.usefixtures("isa")
@sizes_of_all_kinds
@forms
@pytest.mark.parametrize("numbers", OPTIONS.values(), ids=OPTIONS)
def test_numbers(sizes, form, numbers):
    state = make_state(sizes)
    actual = step(BACKEND, form, *state, numbers)
    *tensors, left, right = [tensor.double() for tensor in state]
    exact = torch_step(*tensors, gradient_of(left, right), numbers)
    rival = torch_step(*state[:3], gradient_of(*state[3:]), numbers)
    size = gradient_of(left.abs(), right.abs())
    magnitudes = (tensors[0].abs(), tensors[1].abs() + size, tensors[2] + size**2)
    for one, two, three, magnitude in zip(actual, rival, exact, magnitudes, strict=True):
        assert_within_budget(one, two, three, magnitude)


@pytest.mark.usefixtures("isa")
@sizes_of_all_kinds
@dtypes
@forms
def test_bfloat16_against_the_reference(sizes, weight_dtype, state_dtype, form):
    state = make_state(sizes, weight_dtype, state_dtype)
    numbers = OPTIONS["weight decay"]
    pairs = zip(step(BACKEND, form, *state, numbers), step(reference, form, *state, numbers), strict=True)
    for actual, expected in pairs:
        assert actual.dtype == expected.dtype
        # float32 differs by roundings: of bfloat16 few elements are another one, and that the next
        different = (actual != expected).double().mean() if actual.dtype == BF16 else 0
        assert different <= 0.02 + 1 / actual.numel()
        assert torch.allclose(actual.double(), expected.double(), rtol=2**-7, atol=1e-6)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("sizes", SIZES[:-1], ids=str)
@forms
def test_the_random_bits_are_those_of_the_reference(sizes, form):
    # multiples of 1/8, few enough that float32 is exact, and bfloat16 is not
    weight, momentum, variance, left, right = ((8 * tensor).round() / 8 for tensor in make_state(sizes))
    state = weight, momentum.to(BF16), variance.to(BF16), left, right
    actual, expected = step(BACKEND, form, *state, EXACT), step(reference, form, *state, EXACT)
    assert torch.equal(actual[1], expected[1])
    assert torch.equal(actual[2], expected[2])
    other = step(BACKEND, form, *state, EXACT._replace(noise_key=1))
    if weight.numel() > 100:
        assert not torch.equal(actual[1], other[1])
        assert not torch.equal(actual[2], other[2])


def test_noise_is_the_published_hash():
    # lowbias32 in Python's integers
    def mix(x):
        x = ((x ^ (x >> 16)) * 0x7FEB352D) % 2**32
        x = ((x ^ (x >> 15)) * 0x846CA68B) % 2**32
        return x ^ (x >> 16)

    for key in (0, 1, 0x80000000, 0xFFFFFFFF):
        expected = [mix(index ^ key) for index in range(1000)]
        assert reference.noise_bits(1000, key, DEVICE).tolist() == expected


@pytest.mark.parametrize("value", [1 + 2**-9, 1 + 2**-8, -3.1, 1e-39, 3.3e38])
def test_rounding_is_unbiased(value):
    count = 1 << 16
    # beta2 0 and beta1 0: momentum is the gradient, variance its square
    numbers = Numbers(beta1=0.0, beta2=0.0, bias_correction2=1.0)
    for target, gradient in ((1, value), (2, abs(value) ** 0.5)):
        state = [torch.zeros(count, dtype=dtype, device=DEVICE) for dtype in (F32, BF16, BF16)]
        exact = torch.full((count,), gradient, device=DEVICE)
        BACKEND.nadam_dense_(*state, exact, *numbers)
        rounded = state[target].double()
        expected = exact[0].double() if target == 1 else (exact[0] * exact[0]).double()
        low, high = rounded.min(), rounded.max()
        # the two neighbours, and their mean within five standard deviations of a mean of coin tosses
        assert low <= expected <= high
        assert rounded.unique().numel() <= 2
        assert (rounded.mean() - expected).abs() <= 5 * 0.5 * (high - low) / count**0.5


def test_rounding_is_independent_of_the_other_average_the_neighbour_and_the_step():
    count = 1 << 16
    numbers = Numbers(beta1=0.0, beta2=0.0, bias_correction2=1.0)
    # half-way between two bfloat16 numbers, and so is its square
    value = (1 + 2**-8) ** 0.5
    up = []
    for key, gradient in ((1, 1 + 2**-8), (2, 1 + 2**-8), (1, value)):
        state = [torch.zeros(count, dtype=dtype, device=DEVICE) for dtype in (F32, BF16, BF16)]
        exact = torch.full((count,), gradient, device=DEVICE)
        BACKEND.nadam_dense_(*state, exact, *numbers._replace(noise_key=key))
        up.append([(average.double() - average.double().mean()).sign() for average in state[1:]])
    momentum, other_step, variance = up[0][0], up[1][0], up[2][1]
    for one, two in ((momentum, other_step), (momentum, variance), (momentum[1:], momentum[:-1])):
        assert (one * two).mean().abs() < 5 / count**0.5


@pytest.mark.usefixtures("isa")
@dtypes
@forms
def test_nan_and_infinity(weight_dtype, state_dtype, form):
    sizes = (3, 2, 5, 37)
    weight, momentum, variance, left, right = make_state(sizes, weight_dtype, state_dtype)
    left[0, 0, 1] = float("nan")
    right[1, 1, 7] = float("inf")
    momentum[0, 0, 0] = -float("nan")
    variance[0, 0, 1] = float("nan")
    momentum[0, 2, 3] = float("inf")
    variance[0, 2, 4] = float("inf")
    weight[0, 2, 5] = float("inf")
    state = (weight, momentum, variance, left, right)
    actual, expected = step(BACKEND, form, *state, Numbers()), step(reference, form, *state, Numbers())
    for one, two in zip(actual, expected, strict=True):
        assert torch.equal(one.isnan(), two.isnan())
        assert torch.equal(one.isinf(), two.isinf())
    assert actual[0][0, 1].isnan().all()
    assert actual[1][0, 1].isnan().all()
    assert actual[2][0, 1].isnan().all()
    assert actual[1][0, 0, 0].isnan()
    assert (actual[2][1, :, 7] == float("inf")).all()
    # as torch's: an infinite variance stops its weight, an infinite weight stays
    assert actual[2][0, 2, 4] == float("inf")
    assert actual[0][0, 2, 4] == weight[0, 2, 4]
    assert actual[0][0, 2, 5] == float("inf")
    assert actual[1][0, 2, 5].isfinite()


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("backend", [BACKEND, reference])
def test_noise_does_not_make_a_number_of_a_nan(backend):
    # all bits of these are ones: anything added to them would come out as zero
    gradient = torch.full((1000,), -1, dtype=torch.int32, device=DEVICE).view(F32)
    state = [torch.ones(1000, dtype=dtype, device=DEVICE) for dtype in (F32, BF16, BF16)]
    backend.nadam_dense_(*state, gradient, *Numbers())
    assert all(tensor.isnan().all() for tensor in state)


def _transposed(tensor):
    return tensor.transpose(0, 1).contiguous().transpose(0, 1)


def _every_other(tensor):
    return torch.stack([tensor, tensor], -1)[..., 0]


@pytest.mark.parametrize("layout", [_transposed, _every_other, lambda tensor: tensor[:1].expand(tensor.shape)])
def test_strided_factors(layout):
    *state, left, right = make_state((5, 3, 4, 37))
    left, right = layout(left), layout(right)
    expected = step(BACKEND, "factored", *state, left.contiguous(), right.contiguous(), Numbers())
    for one, two in zip(step(BACKEND, "factored", *state, left, right, Numbers()), expected, strict=True):
        assert torch.equal(one, two)


@forms
@pytest.mark.parametrize("layout", [_transposed, _every_other])
def test_strided_weights(layout, form):
    state = make_state((5, 3, 4, 37), F32, BF16)
    expected = step(BACKEND, form, *state, Numbers())
    changed = [layout(tensor) for tensor in state[:3]]
    left, right = state[3:]
    gradient = (left, right) if form == "factored" else (_transposed(gradient_of(left, right)),)
    getattr(BACKEND, f"nadam_{form}_")(*changed, *gradient, *Numbers())
    for one, two in zip(changed, expected, strict=True):
        assert torch.equal(one, two)
    if NAME == "native":
        assert spf_kernels.counters() == {"weight copied: not contiguous": 1}


@pytest.mark.parametrize("shape", [(0, 4, 5), (3, 0, 5), (3, 4, 0)])
def test_empty_weights(shape):
    state = [torch.empty(shape, device=DEVICE) for _ in range(3)]
    BACKEND.nadam_factored_(*state, randn(2, *shape[:2]), randn(2, shape[0], shape[2]), *Numbers())
    BACKEND.nadam_dense_(*state, torch.empty(shape, device=DEVICE), *Numbers())
    assert state[0].shape == shape


@pytest.mark.skipif(NAME != "native", reason="the threads are csrc's")
@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("state_dtype", [F32, BF16], ids=str)
@pytest.mark.parametrize("sizes", [(9, 3, 37, 3136), (2, 70, 16, 257)], ids=str)
@forms
def test_same_bits_for_any_number_of_threads(form, sizes, state_dtype):
    state = make_state(sizes, F32, state_dtype)
    torch.set_num_threads(1)
    expected = step(BACKEND, form, *state, Numbers())
    for threads in (1, 2, 3, 7):
        torch.set_num_threads(threads)
        for actual, first in zip(step(BACKEND, form, *state, Numbers()), expected, strict=True):
            assert torch.equal(actual, first)


@dtypes
def test_operators(weight_dtype, state_dtype):
    *state, left, right = make_state((3, 2, 4, 6), weight_dtype, state_dtype)
    gradient = gradient_of(left, right).to(weight_dtype)
    for operator, arguments in ((ops.nadam_factored_, (left, right)), (ops.nadam_dense_, (gradient,))):
        report = torch.library.opcheck(operator, (*(tensor.clone() for tensor in state), *arguments, *Numbers()))
        assert set(report.values()) == {"SUCCESS"}, report


@forms
def test_the_operators_take_part_in_version_counting(form):
    *state, left, right = make_state((3, 2, 4, 6))
    before = [tensor._version for tensor in state]
    gradient = (left, right) if form == "factored" else (gradient_of(left, right),)
    getattr(ops, f"nadam_{form}_")(*state, *gradient, *Numbers())
    assert all(tensor._version > version for tensor, version in zip(state, before, strict=True))


def test_operators_below_autocast_and_in_inference_mode():
    *state, left, right = make_state((3, 2, 4, 6))
    expected = step(reference, "factored", *state, left, right, Numbers())
    with torch.autocast(DEVICE.type, dtype=BF16), spf_kernels.use_backend("reference"):
        ops.nadam_factored_(*state, left, right, *Numbers())
    assert torch.equal(state[0], expected[0])
    with torch.inference_mode():
        inside = [tensor.clone() for tensor in state]
        ops.nadam_factored_(*inside, left, right, *Numbers())
    assert not torch.equal(inside[0], expected[0])


def test_operators_refuse_what_does_not_fit():
    weight, momentum, variance, left, right = make_state((3, 2, 4, 6))
    gradient = gradient_of(left, right)
    wrong_states = [
        (weight, momentum[:1], variance),
        (weight, momentum, variance[..., 1:]),
        (weight, momentum.half(), variance),
    ]
    for wrong in [*wrong_states, (weight, momentum.to("meta"), variance)]:
        with pytest.raises(ValueError, match=r"operands do not fit: weight \(2, 4, 6\) torch.float32"):
            ops.nadam_dense_(*wrong, gradient, *Numbers())
        with pytest.raises(ValueError, match=r"operands do not fit: weight \(2, 4, 6\) torch.float32"):
            ops.nadam_factored_(*wrong, left, right, *Numbers())
    for wrong in ((left[:1], right), (left, right[..., 1:]), (left[..., 1:], right), (left[0], right[0])):
        with pytest.raises(ValueError, match="operands do not fit"):
            ops.nadam_factored_(weight, momentum, variance, *wrong, *Numbers())
    with pytest.raises(ValueError, match=r"gradient \(2, 4, 5\)"):
        ops.nadam_dense_(weight, momentum, variance, gradient[..., 1:], *Numbers())
