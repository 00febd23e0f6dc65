"""NaN and infinity come out where they must and nowhere else; what a buffer held before never does."""

import pytest
import torch

from spf_kernels.backends import native, reference

from .helpers import ACTIVATIONS, DTYPES, ISAS, check_kernel, make_case, needs_native, run

pytestmark = needs_native

# 37 pixels and 19 rows: tails of every vector length
SIZES = (14, 3, 19, 37)
B, C, D, S = 8, 1, 5, 36
NAN = float("nan")
INF = float("inf")


def _changed(tensor, index, value):
    changed = tensor.clone()
    changed[index] = value
    return changed


def _assert_same(actual, expected):
    """Equal NaN and infinities, finite values close."""
    assert torch.equal(actual.isnan(), expected.isnan())
    tolerance = 16 * torch.finfo(actual.dtype).eps
    assert torch.allclose(actual, expected, rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.fixture(params=ISAS)
def isa(request):
    native.extension().select_isa(request.param)
    return request.param


@pytest.mark.usefixtures("isa", "poisoned_outputs")
@pytest.mark.parametrize("weight_dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
class TestNan:
    def test_pixel_reaches_the_codes_of_its_map_only(self, activation, dtype, weight_dtype):
        case = make_case(SIZES, dtype, weight_dtype, activation)
        clean = native.encode(case.maps, case.weight, case.encoder_bias, activation)
        codes = native.encode(_changed(case.maps, (B, C, S), NAN), case.weight, case.encoder_bias, activation)
        assert codes[B, C].isnan().all()
        assert torch.equal(_changed(codes, (B, C), 0), _changed(clean, (B, C), 0))

    def test_code_reaches_the_pixels_of_its_map_only(self, activation, dtype, weight_dtype):
        case = make_case(SIZES, dtype, weight_dtype, activation)
        clean = native.decode(case.codes, case.weight, case.decoder_bias, activation)
        maps = native.decode(_changed(case.codes, (B, C, D), NAN), case.weight, case.decoder_bias, activation)
        assert maps[B, C].isnan().all()
        assert torch.equal(_changed(maps, (B, C), 0), _changed(clean, (B, C), 0))

    def test_weight_reaches_its_row_or_column_only(self, activation, dtype, weight_dtype):
        case = make_case(SIZES, dtype, weight_dtype, activation)
        weight = _changed(case.weight, (C, D, S), NAN)
        codes = native.encode(case.maps, weight, case.encoder_bias, activation)
        maps = native.decode(case.codes, weight, case.decoder_bias, activation)
        assert torch.equal(codes.isnan(), _mask(codes, (slice(None), C, D)))
        assert torch.equal(maps.isnan(), _mask(maps, (slice(None), C, S)))

    def test_bias_reaches_its_row_or_column_only(self, activation, dtype, weight_dtype):
        case = make_case(SIZES, dtype, weight_dtype, activation)
        codes = native.encode(case.maps, case.weight, _changed(case.encoder_bias, (C, D), NAN), activation)
        maps = native.decode(case.codes, case.weight, _changed(case.decoder_bias, (C, S), NAN), activation)
        assert torch.equal(codes.isnan(), _mask(codes, (slice(None), C, D)))
        assert torch.equal(maps.isnan(), _mask(maps, (slice(None), C, S)))

    def test_target_reaches_its_sample_and_pixel_only(self, activation, dtype, weight_dtype):
        case = make_case(SIZES, dtype, weight_dtype, activation)
        case = case._replace(maps=_changed(case.maps, (B, C, S), NAN))
        loss, error, residual, codes_gradient = run(native, "reconstruct", case)
        assert torch.equal(loss.isnan(), _mask(loss, (B,)))
        assert torch.equal(error.isnan(), _mask(error, (B, C, S)))
        assert torch.equal(residual.isnan(), _mask(residual, (B, C, S)))
        assert torch.equal(codes_gradient.isnan(), _mask(codes_gradient, (B, C)))

    def test_code_reaches_its_map_in_reconstruct_only(self, activation, dtype, weight_dtype):
        case = make_case(SIZES, dtype, weight_dtype, activation)
        case = case._replace(codes=_changed(case.codes, (B, C, D), NAN))
        loss, error, residual, codes_gradient = run(native, "reconstruct", case)
        assert torch.equal(loss.isnan(), _mask(loss, (B,)))
        for result in (error, residual, codes_gradient):
            assert torch.equal(result.isnan(), _mask(result, (B, C)))


def _mask(like, index):
    return _changed(torch.zeros_like(like), index, 1).bool()


@pytest.mark.usefixtures("isa", "poisoned_outputs")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nan_in_outer_reaches_its_row_or_column_only(dtype):
    case = make_case(SIZES, dtype)
    rows = native.outer(_changed(case.codes, (B, C, D), NAN), case.maps, dtype)
    columns = native.outer(case.codes, _changed(case.maps, (B, C, S), NAN), dtype)
    assert torch.equal(rows.isnan(), _mask(rows, (C, D)))
    assert torch.equal(columns.isnan(), _mask(columns, (C, slice(None), S)))


@pytest.mark.usefixtures("isa", "poisoned_outputs")
@pytest.mark.parametrize("value", [INF, -INF, 3e38], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("where", ["maps", "codes", "weight"])
@pytest.mark.parametrize("name", ["encode", "decode", "outer"])
def test_infinity_and_overflow_are_the_specifications(name, where, activation, dtype, value):
    case = _with_value(make_case(SIZES, dtype, dtype, activation), where, value)
    _assert_same(run(native, name, case)[0], run(reference, name, case)[0])


# an infinite weight or a sum that overflows half way gives infinity or NaN depending on the order of the sum
@pytest.mark.usefixtures("isa", "poisoned_outputs")
@pytest.mark.parametrize("value", [INF, -INF], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("where", ["maps", "codes"])
def test_infinity_in_reconstruct_is_the_specifications(where, activation, dtype, value):
    case = _with_value(make_case(SIZES, dtype, dtype, activation), where, value)
    for actual, expected in zip(run(native, "reconstruct", case), run(reference, "reconstruct", case), strict=True):
        _assert_same(actual, expected)


def _with_value(case, where, value):
    index = {"maps": (B, C, S), "codes": (B, C, D), "weight": (C, D, S)}[where]
    return case._replace(**{where: _changed(getattr(case, where), index, value)})


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("encode", (40, 128, 129, 4)),
        ("decode", (40, 128, 4, 129)),
        ("outer", (4, 8, 130, 1023)),
        ("reconstruct", (40, 128, 128, 129)),
    ],
)
def test_recycled_buffers_are_overwritten(name, sizes):
    extension = native.extension()
    old = [extension.empty(count, 0) for count in [2**19, 2**20, 3 * 2**19] for _ in range(3)]
    for buffer in old:
        buffer.fill(NAN)
    del old, buffer
    hits = extension.cache_statistics()["hits"]
    check_kernel(native, name, make_case(sizes, activation="tanh" if name != "outer" else "none"))
    assert extension.cache_statistics()["hits"] > hits
