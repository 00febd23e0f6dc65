"""Tensors of more than 2^31 elements, in memory that is there only where it is written, and the last program alone.

The interpreter wraps 32-bit offsets as a GPU does. A wrapped one points into the 2^31 zeros on either side of every
tensor, so that a fault is a wrong number and no crash.
"""

import mmap

import numpy as np
import pytest
import torch
import triton.language as tl
from triton.runtime.interpreter import GridExecutor, InterpreterBuilder, TensorHandle

from spf_kernels.backends import reference
from spf_kernels.backends.triton.launch import Card

from .helpers import ARGUMENTS, BACKEND, make_case, randn, run

MARGIN = 2**31
# Linux's MAP_NORESERVE, which Python names from 3.13 on: no promise that all of it could be written
NO_RESERVE = 0x4000
DTYPE = torch.bfloat16


def zeros(shape, stride=None, dtype=DTYPE):
    """A tensor of this shape and these strides that takes no memory before it is written."""
    stride = stride or torch.empty(shape, device="meta").stride()
    span = 1 + sum((length - 1) * step for length, step in zip(shape, stride, strict=True))
    length = 2 * MARGIN + span
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE
    pages = mmap.mmap(-1, length * dtype.itemsize, flags=private)
    return torch.frombuffer(pages, dtype=dtype).as_strided(shape, stride, MARGIN)


@pytest.fixture(autouse=True)
def outputs_take_no_memory(monkeypatch):
    original = BACKEND._empty
    monkeypatch.setattr(
        BACKEND,
        "_empty",
        lambda shape, dtype, device: (
            zeros(shape, dtype=dtype) if torch.Size(shape).numel() > 2**24 else original(shape, dtype, device)
        ),
    )
    # it copies the whole storage of every argument onto itself
    monkeypatch.setattr(GridExecutor, "_restore_args_dev", lambda *_: None)


@pytest.fixture
def last_program_alone(monkeypatch):
    """Of every launch, only the last program runs: it has the largest offsets."""
    original = GridExecutor.__call__

    def call(executor, *arguments, **options):
        last = TensorHandle(np.array([executor.grid[0] - 1], dtype=np.int32), tl.int32)
        monkeypatch.setattr(InterpreterBuilder, "create_get_program_id", lambda *_: last)
        executor.grid = (1,)
        original(executor, *arguments, **options)

    monkeypatch.setattr(GridExecutor, "__call__", call)


# steps between the samples, then between the maps (of which 3 times is more than 2^31), of 16 elements and of 1
@pytest.mark.parametrize("pixels", [48, 45])
@pytest.mark.parametrize("far", [0, 1], ids=["samples", "maps"])
@pytest.mark.parametrize("name", ARGUMENTS)
def test_strides(name, far, pixels):
    case = make_case((4, 4, 8, pixels), DTYPE, DTYPE, "tanh")

    def apart(near):
        step = 2**30 + (16 if pixels == 48 else 1)
        tensor = zeros(near.shape, (step, 64, 1) if far == 0 else (64, step, 1))
        return tensor.copy_(near)

    distant = case._replace(codes=apart(case.codes), maps=apart(case.maps))
    for actual, expected in zip(run(BACKEND, name, distant), run(BACKEND, name, case), strict=True):
        assert torch.equal(actual, expected)


MANY_MAPS = (2, 2**16 + 1, 256, 128)
LONG_CODES = (2, 1, 2**24 + 16, 128)
LARGE_MAPS = (2, 1, 256, 2**23 + 2**17)
# a code larger than a tile
LARGE_BOTH = (2, 1, 1024, 2**22)
MANY_SAMPLES = (48, 1, 16, 2**26)


def _corners(name, sizes):
    """Large operands that are zero but where the last 16 x 16 results come from, and those parts of them."""
    B, C, D, S = sizes
    codes, maps, weight = zeros((B, C, D)), zeros((B, C, S)), zeros((C, D, S))
    whole_code, whole_map = name in ("decode", "reconstruct"), name == "encode"
    last_d, last_s = slice(0 if whole_code else -16, None), slice(0 if whole_map else -16, None)
    parts = codes[:, -1:, last_d], maps[:, -1:, last_s], weight[-1:, last_d, last_s]
    for seed, part in enumerate(parts):
        part.copy_(randn(*part.shape, dtype=DTYPE, seed=seed) / 4)
    return (codes, maps, weight), parts


def _assert_close(actual, expected):
    assert expected.abs().max() > 0.1
    assert torch.allclose(actual.float(), expected.float(), rtol=2**-7, atol=2**-9)


@pytest.mark.usefixtures("last_program_alone")
class TestTheLastProgram:
    @pytest.mark.parametrize("sizes", [MANY_MAPS, LONG_CODES], ids=str)
    def test_encode(self, sizes):
        (_, maps, weight), (_, last_maps, last_weight) = _corners("encode", sizes)
        codes = BACKEND.encode(maps, weight, None, "none")
        _assert_close(codes[:, -1:, -16:], reference.encode(last_maps, last_weight, None, "none"))

    @pytest.mark.parametrize("sizes", [MANY_MAPS, LARGE_MAPS, LARGE_BOTH, MANY_SAMPLES], ids=str)
    def test_decode(self, sizes):
        (codes, _, weight), (last_codes, _, last_weight) = _corners("decode", sizes)
        maps = BACKEND.decode(codes, weight, None, "none")
        _assert_close(maps[-16:, -1:, -16:], reference.decode(last_codes, last_weight, None, "none")[-16:])

    @pytest.mark.parametrize("sizes", [MANY_MAPS, LONG_CODES], ids=str)
    def test_outer(self, sizes):
        (codes, maps, _), (last_codes, last_maps, _) = _corners("outer", sizes)
        gradient = BACKEND.outer(codes, maps, DTYPE)
        _assert_close(gradient[-1:, -16:, -16:], reference.outer(last_codes, last_maps, DTYPE))

    @pytest.mark.parametrize("sizes", [MANY_MAPS, LARGE_MAPS, LARGE_BOTH, MANY_SAMPLES], ids=str)
    def test_reconstruct(self, sizes, monkeypatch):
        if sizes != MANY_MAPS:
            # so many chunks that the last is one tile; their sum is not what is tested
            monkeypatch.setattr(BACKEND, "card_of", lambda _: Card("sm_90", 2**20))
        (codes, maps, weight), last = _corners("reconstruct", sizes)
        with_gradient = sizes == MANY_MAPS
        _, *found = BACKEND.reconstruct(codes, maps, weight, None, "none", True, True, with_gradient)
        _, *expected = reference.reconstruct(*last, None, "none", True, True, with_gradient)
        for actual, part in zip(found[:2], expected, strict=False):
            _assert_close(actual[-16:, -1:, -16:], part[-16:])
        if with_gradient:
            _assert_close(found[2][:, -1:], expected[2])

    @pytest.mark.parametrize("form", ["factored", "dense"])
    def test_nadam(self, form):
        B, C, D, S = MANY_MAPS
        state = [zeros((C, D, S), dtype=torch.float32) for _ in range(3)]
        gradient = [zeros((B, C, D)), zeros((B, C, S))] if form == "factored" else [zeros((C, D, S))]
        last = [tensor[-1:, -16:, -16:] for tensor in (*state, *gradient)]
        if form == "factored":
            last[3:] = [tensor[:, -1:, -16:] for tensor in gradient]
        for seed, part in enumerate(last):
            part.copy_(randn(*part.shape, seed=seed).square())
        numbers = (0.9, 0.99, 1e-8, 0.1, 0.9, 0.3, 0.4, 0.5, False, 7)
        expected = [tensor.clone() for tensor in last]
        getattr(reference, f"nadam_{form}_")(*expected, *numbers)
        getattr(BACKEND, f"nadam_{form}_")(*state, *gradient, *numbers)
        for actual, part in zip(last[:3], expected, strict=False):
            assert torch.allclose(actual, part, rtol=1e-5, atol=1e-6)
