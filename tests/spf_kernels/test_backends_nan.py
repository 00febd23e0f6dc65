"""NaN and infinity come out where they must and nowhere else; what a buffer held before never does."""

import pytest
import torch

from spf_kernels.backends import reference

from .helpers import ACTIVATIONS, BACKEND, DTYPES, layers, make_case, needs_kernels, run

pytestmark = [needs_kernels, pytest.mark.usefixtures("isa", "poisoned_outputs")]

# 37 pixels and 19 rows: tails of every vector length; 18 samples: two of every kernel's tiles
SIZES = (18, 2, 19, 37)
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


@layers
class TestNan:
    def test_pixel_reaches_the_codes_of_its_map_only(self, activation, dtype, weight_dtype):
        case = make_case(SIZES, dtype, weight_dtype, activation)
        clean = BACKEND.encode(case.maps, case.weight, case.encoder_bias, activation)
        codes = BACKEND.encode(_changed(case.maps, (B, C, S), NAN), case.weight, case.encoder_bias, activation)
        assert codes[B, C].isnan().all()
        assert torch.equal(_changed(codes, (B, C), 0), _changed(clean, (B, C), 0))

    def test_code_reaches_the_pixels_of_its_map_only(self, activation, dtype, weight_dtype):
        case = make_case(SIZES, dtype, weight_dtype, activation)
        clean = BACKEND.decode(case.codes, case.weight, case.decoder_bias, activation)
        maps = BACKEND.decode(_changed(case.codes, (B, C, D), NAN), case.weight, case.decoder_bias, activation)
        assert maps[B, C].isnan().all()
        assert torch.equal(_changed(maps, (B, C), 0), _changed(clean, (B, C), 0))

    def test_weight_reaches_its_row_or_column_only(self, activation, dtype, weight_dtype):
        case = make_case(SIZES, dtype, weight_dtype, activation)
        weight = _changed(case.weight, (C, D, S), NAN)
        codes = BACKEND.encode(case.maps, weight, case.encoder_bias, activation)
        maps = BACKEND.decode(case.codes, weight, case.decoder_bias, activation)
        assert torch.equal(codes.isnan(), _mask(codes, (slice(None), C, D)))
        assert torch.equal(maps.isnan(), _mask(maps, (slice(None), C, S)))

    def test_bias_reaches_its_row_or_column_only(self, activation, dtype, weight_dtype):
        case = make_case(SIZES, dtype, weight_dtype, activation)
        codes = BACKEND.encode(case.maps, case.weight, _changed(case.encoder_bias, (C, D), NAN), activation)
        maps = BACKEND.decode(case.codes, case.weight, _changed(case.decoder_bias, (C, S), NAN), activation)
        assert torch.equal(codes.isnan(), _mask(codes, (slice(None), C, D)))
        assert torch.equal(maps.isnan(), _mask(maps, (slice(None), C, S)))

    def test_target_reaches_its_sample_and_pixel_only(self, activation, dtype, weight_dtype):
        case = make_case(SIZES, dtype, weight_dtype, activation)
        case = case._replace(maps=_changed(case.maps, (B, C, S), NAN))
        loss, error, residual, codes_gradient = run(BACKEND, "reconstruct", case)
        assert torch.equal(loss.isnan(), _mask(loss, (B,)))
        assert torch.equal(error.isnan(), _mask(error, (B, C, S)))
        assert torch.equal(residual.isnan(), _mask(residual, (B, C, S)))
        assert torch.equal(codes_gradient.isnan(), _mask(codes_gradient, (B, C)))

    def test_code_reaches_its_map_in_reconstruct_only(self, activation, dtype, weight_dtype):
        case = make_case(SIZES, dtype, weight_dtype, activation)
        case = case._replace(codes=_changed(case.codes, (B, C, D), NAN))
        loss, error, residual, codes_gradient = run(BACKEND, "reconstruct", case)
        assert torch.equal(loss.isnan(), _mask(loss, (B,)))
        for result in (error, residual, codes_gradient):
            assert torch.equal(result.isnan(), _mask(result, (B, C)))


def _mask(like, index):
    return _changed(torch.zeros_like(like), index, 1).bool()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_nan_in_outer_reaches_its_row_or_column_only(dtype):
    case = make_case(SIZES, dtype)
    rows = BACKEND.outer(_changed(case.codes, (B, C, D), NAN), case.maps, dtype)
    columns = BACKEND.outer(case.codes, _changed(case.maps, (B, C, S), NAN), dtype)
    assert torch.equal(rows.isnan(), _mask(rows, (C, D)))
    assert torch.equal(columns.isnan(), _mask(columns, (C, slice(None), S)))


@pytest.mark.parametrize("value", [INF, -INF, 3e38], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    ("name", "where"), [("encode", "maps"), ("encode", "weight"), ("decode", "codes"), ("decode", "weight")]
)
def test_infinity_and_overflow_are_the_specifications(name, where, activation, dtype, value):
    case = _with_value(make_case(SIZES, dtype, dtype, activation), where, value)
    _assert_same(run(BACKEND, name, case)[0], run(reference, name, case)[0])


@pytest.mark.parametrize("value", [INF, -INF, 3e38], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("where", ["maps", "codes"])
def test_infinity_and_overflow_in_outer_are_the_specifications(where, dtype, value):
    case = _with_value(make_case(SIZES, dtype, dtype), where, value)
    _assert_same(run(BACKEND, "outer", case)[0], run(reference, "outer", case)[0])


# an infinite weight or a sum that overflows half way gives infinity or NaN depending on the order of the sum
@pytest.mark.parametrize("value", [INF, -INF], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("where", ["maps", "codes"])
def test_infinity_in_reconstruct_is_the_specifications(where, activation, dtype, value):
    case = _with_value(make_case(SIZES, dtype, dtype, activation), where, value)
    for actual, expected in zip(run(BACKEND, "reconstruct", case), run(reference, "reconstruct", case), strict=True):
        _assert_same(actual, expected)


def _with_value(case, where, value):
    index = {"maps": (B, C, S), "codes": (B, C, D), "weight": (C, D, S)}[where]
    return case._replace(**{where: _changed(getattr(case, where), index, value)})
