"""The extension alone, driven by numpy: no torch, buffers of exactly the right size, for sanitizers to watch.

SPF_NATIVE_PATH names the extension to test; without it, the one next to spf_kernels is.
"""

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
ACTIVATIONS = ("none", "relu", "tanh", "sigmoid")
F32, BF16 = 0, 1
EPS = {F32: 2.0**-24, BF16: 2.0**-8}
TORCH_BEFORE = "torch" in sys.modules


def _find():
    named = os.environ.get("SPF_NATIVE_PATH")
    if named:
        return Path(named)
    return next(iter(sorted((ROOT / "spf_kernels").glob("_native*.so"))), None)


def _load(path):
    spec = importlib.util.spec_from_file_location("_native", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PATH = _find()
if PATH is None:
    pytest.skip("the extension is not built and SPF_NATIVE_PATH is not set", allow_module_level=True)
native = _load(PATH)
TORCH_AFTER = "torch" in sys.modules


@pytest.fixture(autouse=True, params=native.available_isas())
def isa(request):
    before = native.selected_isa()
    native.select_isa(request.param)
    yield request.param
    native.select_isa(before)


def to_bf16(values):
    """float32 -> bfloat16 bits, to the nearest even."""
    bits = np.asarray(values, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def to_float64(values):
    """The numbers that an array of float32, or of bfloat16 bits, stands for."""
    if values.dtype == np.uint16:
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float64)


def cast(values, dtype):
    # a copy: its own allocation of exactly this size
    return np.array(values, np.float32) if dtype == F32 else to_bf16(values)


def poisoned(shape, dtype):
    """A buffer of its own, full of NaN."""
    return np.full(shape, np.nan, np.float32) if dtype == F32 else np.full(shape, 0x7FC0, np.uint16)


def address(array):
    return 0 if array is None else array.ctypes.data


def strides(array):
    return tuple(stride // array.itemsize for stride in array.strides)


def maps_spec(maps, dtype):
    return address(maps), *strides(maps)[:2], dtype


def codes_spec(codes, dtype):
    return address(codes), *strides(codes), dtype


def layer_spec(weight, bias, dtype, activation):
    return address(weight), address(bias), dtype, ACTIVATIONS.index(activation)


def activate(x, activation):
    functions = {
        "none": lambda x: x,
        "relu": lambda x: np.maximum(x, 0),
        "tanh": np.tanh,
        "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    }
    return functions[activation](x)


def slope(y, activation):
    return {"none": np.ones_like(y), "relu": (y > 0) * 1.0, "tanh": 1 - y * y, "sigmoid": y * (1 - y)}[activation]


def close(actual, expected, magnitude, dtype):
    """Within one rounding of the result's dtype and a dozen of float32, of the sums' magnitudes."""
    error = np.abs(to_float64(actual) - expected)
    return (error <= EPS[dtype] * np.abs(expected) + 12 * EPS[F32] * magnitude).all()


class Inputs:
    """Random arrays of one problem, as the kernels take them and as float64.

    Multiples of 1/16: their sums of products are exact in float32, so relu's kink is at the same place for all.
    """

    def __init__(self, sizes, dtype, weight_dtype, bias=True):
        B, C, D, S = self.sizes = sizes
        self.dtype, self.weight_dtype = dtype, weight_dtype
        random = np.random.default_rng([*sizes, dtype, weight_dtype])

        def draw(dtype, *shape):
            return cast(random.integers(-16, 17, shape) / 16, dtype)

        self.maps, self.codes = draw(dtype, B, C, S), draw(dtype, B, C, D)
        self.weight = draw(weight_dtype, C, D, S)
        self.encoder_bias = draw(weight_dtype, C, D) if bias else None
        self.decoder_bias = draw(weight_dtype, C, S) if bias else None

    def decoded(self, activation):
        """The decoder's output and the magnitude of its sums, in float64."""
        z, w = to_float64(self.codes), to_float64(self.weight)
        bias = 0 if self.decoder_bias is None else to_float64(self.decoder_bias)
        exact = activate(np.einsum("bcd,cds->bcs", z, w) + bias, activation)
        return exact, np.einsum("bcd,cds->bcs", np.abs(z), np.abs(w)) + np.abs(bias)


# tails of all vectors; boundaries of tiles and blocks; nothing that is a multiple of them
SIZES = [
    (1, 1, 1, 1),
    (1, 2, 3, 5),
    (3, 1, 17, 31),
    (7, 3, 5, 33),
    (12, 2, 33, 63),
    (13, 5, 129, 49),
    (25, 1, 7, 515),
    (49, 2, 19, 401),
    (2, 1, 131, 1025),
    (1, 1, 5, 9301),
    (65, 2, 33, 97),
    (300, 1, 17, 70),
]
DTYPES = [(F32, F32), (BF16, BF16), (F32, BF16), (BF16, F32)]
problems = pytest.mark.parametrize("sizes", SIZES, ids=str)
forms = pytest.mark.parametrize("form", ["factored", "dense"])
dtypes = pytest.mark.parametrize(("dtype", "weight_dtype"), DTYPES, ids=lambda dtype: ("f32", "bf16")[dtype])


def encode(inputs, activation, maps=None, threads=1):
    B, C, D, _ = inputs.sizes
    out = poisoned((B, C, D), inputs.dtype)
    layer = layer_spec(inputs.weight, inputs.encoder_bias, inputs.weight_dtype, activation)
    maps = inputs.maps if maps is None else maps
    native.encode(inputs.sizes, maps_spec(maps, inputs.dtype), layer, address(out), threads)
    return out


def decode(inputs, activation, codes=None, threads=1):
    B, C, _, S = inputs.sizes
    out = poisoned((B, C, S), inputs.dtype)
    layer = layer_spec(inputs.weight, inputs.decoder_bias, inputs.weight_dtype, activation)
    codes = inputs.codes if codes is None else codes
    native.decode(inputs.sizes, codes_spec(codes, inputs.dtype), layer, address(out), threads)
    return out


def outer(inputs, out_dtype, codes=None, maps=None, threads=1):
    _, C, D, S = inputs.sizes
    out = poisoned((C, D, S), out_dtype)
    left = codes_spec(inputs.codes if codes is None else codes, inputs.dtype)
    right = maps_spec(inputs.maps if maps is None else maps, inputs.dtype)
    native.outer(inputs.sizes, left, right, address(out), out_dtype, threads)
    return out


def reconstruct(inputs, activation, asked=(True, True, True), threads=1):
    B, C, D, S = inputs.sizes
    loss = poisoned((B,), F32)
    shapes = ((B, C, S), (B, C, S), (B, C, D))
    # the codes' gradient is rounded by whoever has scaled it
    dtypes = (inputs.dtype, inputs.dtype, F32)
    outputs = [
        poisoned(shape, dtype) if wanted else None for shape, dtype, wanted in zip(shapes, dtypes, asked, strict=True)
    ]
    native.reconstruct(
        inputs.sizes,
        codes_spec(inputs.codes, inputs.dtype),
        maps_spec(inputs.maps, inputs.dtype),
        layer_spec(inputs.weight, inputs.decoder_bias, inputs.weight_dtype, activation),
        address(loss),
        *(address(output) for output in outputs),
        threads,
    )
    return loss, *outputs


def nadam(inputs, form, codes=None, maps=None, threads=1):
    """Weight, momentum and variance after a step from zero averages; these have the factors' dtype."""
    state = inputs.weight.copy(), *(cast(np.zeros(inputs.sizes[1:]), inputs.dtype) for _ in range(2))
    spec = (*map(address, state), inputs.weight_dtype, inputs.dtype)
    left = codes_spec(inputs.codes if codes is None else codes, inputs.dtype)
    right = maps_spec(inputs.maps if maps is None else maps, inputs.dtype)
    step = (0.5, 0.75, 1.0, 0.0, 1.0, 0.25, 0.5, 1.0), False, 12345, threads
    if form == "factored":
        native.nadam_factored(inputs.sizes, spec, left, right, *step)
    else:
        gradient = outer(inputs, inputs.weight_dtype, codes, maps)
        native.nadam_dense(gradient.size, spec, address(gradient), inputs.weight_dtype, *step)
    return state


def assert_encodes(inputs, activation, out):
    x, w = to_float64(inputs.maps), to_float64(inputs.weight)
    bias = 0 if inputs.encoder_bias is None else to_float64(inputs.encoder_bias)
    expected = activate(np.einsum("bcs,cds->bcd", x, w) + bias, activation)
    magnitude = np.einsum("bcs,cds->bcd", np.abs(x), np.abs(w)) + np.abs(bias)
    assert close(out, expected, magnitude, inputs.dtype)


def assert_outer(inputs, out_dtype, out):
    left, right = to_float64(inputs.codes), to_float64(inputs.maps)
    magnitude = np.einsum("bcd,bcs->cds", np.abs(left), np.abs(right))
    assert close(out, np.einsum("bcd,bcs->cds", left, right), magnitude, out_dtype)


@problems
@dtypes
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_encode(sizes, dtype, weight_dtype, activation):
    inputs = Inputs(sizes, dtype, weight_dtype, bias=activation != "none")
    assert_encodes(inputs, activation, encode(inputs, activation))


@problems
@dtypes
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_decode(sizes, dtype, weight_dtype, activation):
    inputs = Inputs(sizes, dtype, weight_dtype, bias=activation != "none")
    expected, magnitude = inputs.decoded(activation)
    assert close(decode(inputs, activation), expected, magnitude, dtype)


@problems
@dtypes
def test_outer(sizes, dtype, weight_dtype):
    inputs = Inputs(sizes, dtype, weight_dtype)
    assert_outer(inputs, weight_dtype, outer(inputs, weight_dtype))


@problems
@dtypes
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_reconstruct(sizes, dtype, weight_dtype, activation):
    inputs = Inputs(sizes, dtype, weight_dtype, bias=activation != "none")
    loss, error, residual, codes_gradient = reconstruct(inputs, activation)
    y, magnitude = inputs.decoded(activation)
    w = np.abs(to_float64(inputs.weight))
    expected = y - to_float64(inputs.maps)
    magnitude = magnitude + np.abs(to_float64(inputs.maps))
    expected_error = expected * slope(y, activation)
    error_magnitude = (1 + 2 * np.abs(expected)) * magnitude
    assert close(residual, expected, magnitude, dtype)
    assert close(error, expected_error, error_magnitude, dtype)
    assert close(loss, (expected**2).sum((1, 2)), (2 * np.abs(expected) * magnitude).sum((1, 2)), F32)
    expected_codes = np.einsum("bcs,cds->bcd", expected_error, to_float64(inputs.weight))
    assert close(codes_gradient, expected_codes, np.einsum("bcs,cds->bcd", error_magnitude, w), F32)


@problems
@dtypes
@forms
def test_nadam(sizes, dtype, weight_dtype, form):
    inputs = Inputs(sizes, dtype, weight_dtype)
    weight, momentum, variance = nadam(inputs, form)
    gradient = np.einsum("bcd,bcs->cds", to_float64(inputs.codes), to_float64(inputs.maps))
    if form == "dense":
        gradient = to_float64(cast(gradient, weight_dtype))
    before = to_float64(inputs.weight)
    assert close(weight, before - gradient / (np.abs(gradient) + 2), np.abs(before) + 1, weight_dtype)
    # rounded up or down, not to nearest
    for average, expected in ((momentum, 0.5 * gradient), (variance, 0.25 * gradient**2)):
        assert (np.abs(to_float64(average) - expected) <= 2 * EPS[dtype] * np.abs(expected)).all()


@dtypes
@pytest.mark.parametrize(
    "asked", [(False, False, False), (True, False, False), (False, True, False), (False, False, True)]
)
def test_reconstruct_takes_no_address_for_what_is_not_wanted(dtype, weight_dtype, asked):
    inputs = Inputs((9, 3, 5, 33), dtype, weight_dtype)
    full = reconstruct(inputs, "tanh")
    results = reconstruct(inputs, "tanh", asked)
    assert np.array_equal(results[0], full[0])
    for wanted, actual, expected in zip(asked, results[1:], full[1:], strict=True):
        assert np.array_equal(actual, expected) if wanted else actual is None


def _spread(array):
    """The same values with gaps between batches and maps, the last ending with the buffer."""
    B, C, length = array.shape
    buffer = poisoned((B * (C * (length + 3) + 5),), F32 if array.dtype == np.float32 else BF16)
    itemsize = array.itemsize
    step = (C * (length + 3) + 5) * itemsize
    first = buffer[-(B - 1) * step // itemsize - (C - 1) * (length + 3) - length :]
    view = np.lib.stride_tricks.as_strided(first, array.shape, (step, (length + 3) * itemsize, itemsize))
    view[...] = array
    return view


@dtypes
def test_strided_inputs_end_with_their_buffers(dtype, weight_dtype):
    inputs = Inputs((18, 3, 19, 37), dtype, weight_dtype)
    maps, codes = _spread(inputs.maps), _spread(inputs.codes)
    transposed = np.ascontiguousarray(inputs.codes.transpose(2, 0, 1)).transpose(1, 2, 0)
    assert np.array_equal(encode(inputs, "tanh", maps), encode(inputs, "tanh"))
    for layout in (codes, transposed):
        assert np.array_equal(decode(inputs, "tanh", layout), decode(inputs, "tanh"))
        assert np.array_equal(outer(inputs, dtype, layout, maps), outer(inputs, dtype))
        for actual, expected in zip(nadam(inputs, "factored", layout, maps), nadam(inputs, "factored"), strict=True):
            assert np.array_equal(actual, expected)


@pytest.mark.parametrize("sizes", [(0, 3, 5, 7), (3, 0, 5, 7)], ids=str)
def test_nothing_to_do(sizes):
    inputs = Inputs(sizes, F32, F32)
    assert encode(inputs, "relu").size == 0
    assert decode(inputs, "relu").size == 0
    assert (outer(inputs, F32) == 0).all()
    assert all(np.array_equal(nadam(inputs, form)[0], inputs.weight) for form in ("factored", "dense"))
    assert (reconstruct(inputs, "relu")[0] == 0).all()


@dtypes
def test_threads(dtype, weight_dtype):
    # above 2^21 multiply-adds, from which threads are used
    inputs = Inputs((18, 3, 37, 2309), dtype, weight_dtype)
    for threads in (2, 3):
        assert np.array_equal(encode(inputs, "none", threads=threads), encode(inputs, "none"))
        assert np.array_equal(decode(inputs, "none", threads=threads), decode(inputs, "none"))
        assert np.array_equal(outer(inputs, dtype, threads=threads), outer(inputs, dtype))
        for actual, expected in zip(
            reconstruct(inputs, "none", threads=threads), reconstruct(inputs, "none"), strict=True
        ):
            assert np.array_equal(actual, expected)
        for form in ("factored", "dense"):
            assert all(map(np.array_equal, nadam(inputs, form, threads=threads), nadam(inputs, form)))


@pytest.mark.parametrize(("dtype", "out_dtype"), [(F32, F32), (F32, BF16), (BF16, BF16)])
def test_streamed_outer(dtype, out_dtype):
    # aligned and at least 8 MiB: written past the caches
    inputs = Inputs((17, 4, 128, 8192), dtype, out_dtype)
    buffer = native.empty(4 * 128 * 8192, out_dtype)
    buffer.fill(np.nan if out_dtype == F32 else 0x7FC0)
    _, C, D, S = inputs.sizes
    left, right = codes_spec(inputs.codes, dtype), maps_spec(inputs.maps, dtype)
    native.outer(inputs.sizes, left, right, address(buffer), out_dtype, 1)
    out = buffer if out_dtype == F32 else buffer.view(np.uint16)
    assert_outer(inputs, out_dtype, out.reshape(C, D, S))


def test_recycled_buffers():
    native.empty_cache()
    buffer = native.empty(2**20, F32)
    assert (buffer.dtype, buffer.shape) == (np.float32, (2**20,))
    buffer[0] = buffer[-1] = 1
    used = native.cache_statistics()["used_bytes"]
    part, data = buffer[5:], address(buffer)
    del buffer
    assert native.cache_statistics()["used_bytes"] == used
    del part
    again = native.empty(2**21, BF16)
    assert address(again) == data
    assert (again.dtype, again.shape) == (np.int16, (2**21,))
    assert native.cache_statistics()["cached_bytes"] == 0
    del again
    native.empty_cache()
    assert native.cache_statistics()["cached_bytes"] == 0


def test_unknown_instruction_set(isa):
    with pytest.raises(ValueError, match=r"instruction set 'sse9' is not available here; available: .*baseline"):
        native.select_isa("sse9")
    assert native.selected_isa() == isa


def test_loading_does_not_import_torch():
    assert TORCH_AFTER == TORCH_BEFORE
