"""PyTorch's own checks of an operator: schema, autograd registration, fake tensors, tracing with dynamic shapes."""

import pytest
import torch

from spf_kernels import functional, ops

from .helpers import ARGUMENTS, DTYPE_PAIRS, NAME, make_case

assert functional  # registers the derivatives


def _check(name, arguments, grad=False):
    # the test of the autograd registration is for operators whose inputs require a gradient
    leaves = tuple(value.detach().requires_grad_() if grad and torch.is_tensor(value) else value for value in arguments)
    report = torch.library.opcheck(getattr(ops, name), leaves)
    assert set(report.values()) == {"SUCCESS"}, report


PAIRS = [*DTYPE_PAIRS, (torch.float64, torch.float64)]
if NAME == "triton":
    # each is compiled or interpreted, and what is checked here is the same for all
    PAIRS = [(torch.float32, torch.float32), (torch.float16, torch.float16), (torch.bfloat16, torch.float32)]

operators = pytest.mark.parametrize("name", ARGUMENTS)
grad_or_not = pytest.mark.parametrize("grad", [False, True], ids=["constant", "differentiable"])


@operators
@grad_or_not
@pytest.mark.parametrize(("dtype", "weight_dtype"), PAIRS, ids=str)
def test_dtypes(name, dtype, weight_dtype, grad):
    _check(name, ARGUMENTS[name](make_case((3, 2, 4, 6), dtype, weight_dtype, "tanh")), grad)


@operators
@grad_or_not
@pytest.mark.parametrize(("activation", "bias"), [("none", False), ("relu", True), ("sigmoid", False)])
def test_activations_and_bias(name, activation, bias, grad):
    _check(name, ARGUMENTS[name](make_case((3, 2, 4, 6), activation=activation, bias=bias)), grad)


@operators
@grad_or_not
def test_empty_batch(name, grad):
    _check(name, ARGUMENTS[name](make_case((0, 2, 4, 6))), grad)


def _transposed(value):
    """The same values with the first two dimensions swapped in memory."""
    return value.transpose(0, 1).contiguous().transpose(0, 1)


def _every_other(value):
    """The same values with a gap behind each."""
    return torch.stack([value, value], -1)[..., 0]


@operators
@grad_or_not
@pytest.mark.parametrize("layout", [_transposed, _every_other])
def test_strided_inputs(name, layout, grad):
    case = make_case((3, 2, 4, 6))
    case = case._replace(codes=layout(case.codes), maps=layout(case.maps), weight=layout(case.weight))
    _check(name, ARGUMENTS[name](case), grad)


@pytest.mark.parametrize(
    "asked", [(False, False, False), (True, False, False), (False, True, False), (False, False, True)]
)
def test_outputs_of_reconstruct(asked):
    arguments = ARGUMENTS["reconstruct"](make_case((3, 2, 4, 6), activation="tanh"))[:5]
    _check("reconstruct", (*arguments, *asked))
