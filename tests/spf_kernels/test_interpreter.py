"""The mend of Triton's interpreter is right, and still needed; it is no test of ours but of what ours stand on."""

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from triton.runtime.interpreter import InterpreterBuilder

from . import interpreter
from .helpers import randn


@triton.jit
def _multiply(a, b, out, N: tl.constexpr):
    i = tl.arange(0, N)
    at = i[:, None] * N + i[None, :]
    tl.store(out + at, tl.dot(tl.load(a + at), tl.load(b + at)))


@triton.jit
def _copy(source, target, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(target + i, tl.load(source + i).to(target.dtype.element_ty))


@pytest.fixture
def unmended(monkeypatch):
    for name, original in interpreter.FAULTY.items():
        monkeypatch.setattr(InterpreterBuilder, name, original)


def _cast(values, dtype):
    target = torch.empty_like(values, dtype=dtype)
    _copy[(1,)](values, target, N=values.numel())
    return target


def _product(dtype):
    a, b = randn(32, 32, dtype=dtype), randn(32, 32, dtype=dtype, seed=2)
    out = torch.empty(32, 32)
    _multiply[(1,)](a, b, out, N=32)
    return out, a.double() @ b.double()


def _every_bfloat16():
    return torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)


def test_every_bfloat16_becomes_the_same_float32():
    values = _every_bfloat16()
    assert torch.equal(_cast(values, torch.float32).nan_to_num(7), values.float().nan_to_num(7))


@pytest.mark.parametrize("offset", [0, 1, 0x7FFF, 0x8000, 0x8001])
def test_float32_is_rounded_as_torch_rounds(offset):
    # every bfloat16, and float32 just behind it, just before, at and behind the middle to the next
    values = (_every_bfloat16().float().view(torch.int32) + offset).view(torch.float32)
    actual, expected = _cast(values, torch.bfloat16), values.to(torch.bfloat16)
    assert torch.equal(actual.isnan(), expected.isnan())
    assert torch.equal(actual.nan_to_num(7).view(torch.int16), expected.nan_to_num(7).view(torch.int16))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_products_are_those_of_the_numbers(dtype):
    actual, expected = _product(dtype)
    assert (actual - expected).norm() <= 1e-6 * expected.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_other_dtypes_are_left_to_the_interpreter(dtype, monkeypatch):
    seen = []
    original = interpreter.FAULTY["create_dot"]
    monkeypatch.setitem(
        interpreter.FAULTY, "create_dot", lambda *arguments: seen.append(arguments) or original(*arguments)
    )
    _product(dtype)
    assert [(a.dtype, b.dtype) for _, a, b, *_ in seen] == [(seen[0][1].dtype, seen[0][2].dtype)]
    assert seen[0][1].data.dtype == np.dtype(str(dtype)[6:])


# when one of these fails, Triton has mended itself: drop that part of `interpreter.py`, and the test
@pytest.mark.usefixtures("unmended")
def test_the_interpreter_still_multiplies_the_bits():
    actual, expected = _product(torch.bfloat16)
    assert (actual - expected).norm() > 0.5 * expected.norm()


@pytest.mark.usefixtures("unmended")
def test_the_interpreter_still_truncates():
    values = torch.tensor([1 + 2.0**-8 + 2.0**-9] * 16)
    assert values.to(torch.bfloat16)[0] == 1 + 2.0**-7
    assert _cast(values, torch.bfloat16)[0] == 1


@pytest.mark.usefixtures("unmended")
def test_the_interpreter_still_loses_denormals():
    values = torch.full((16,), 3, dtype=torch.int16).view(torch.bfloat16)
    assert values.float()[0] > 0
    assert _cast(values, torch.float32)[0] != values.float()[0]
