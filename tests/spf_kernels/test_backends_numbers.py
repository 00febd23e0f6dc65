"""The kernels against float64, within an error budget (see `helpers.assert_within_budget`)."""

from typing import NamedTuple

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spf_kernels.backends import reference

from .helpers import (
    ACTIVATIONS,
    ARGUMENTS,
    BACKEND,
    DEVICE,
    DTYPE_PAIRS,
    DTYPES,
    KERNEL_DTYPES,
    NAME,
    check_kernel,
    competitor,
    dtype_pairs,
    make_case,
    needs_kernels,
    run,
)

pytestmark = [needs_kernels, pytest.mark.usefixtures("poisoned_outputs", "isa")]


class Sizes(NamedTuple):
    """What is drawn: the lengths around the boundaries of a backend's tiles, and any up to a largest."""

    batches: list[int]
    maps: int
    codes: list[int]
    pixels: list[int]
    examples: int
    # of whole cases: common map sizes, and few samples of large maps
    common: list[tuple[int, int, int, int]]
    few: list[tuple[int, int, int, int]]


NATIVE = Sizes(
    # tiles of 12 and 48 samples, 16, 32 and 128 rows, 384 and 512 pixels
    batches=[0, 1, 5, 6, 7, 11, 12, 13, 23, 24, 25, 40],
    maps=9,
    codes=[1, 15, 16, 17, 31, 32, 33, 127, 128, 129, 140],
    pixels=[1, 15, 16, 17, 49, 196, 383, 384, 385, 511, 512, 513, 900],
    examples=25,
    common=[(13, 3, 17, 49), (12, 2, 33, 196), (25, 1, 9, 3136)],
    # the fewer the samples, the more pixels of them fit in L1 at once
    few=[(1, 1, 19, 9301), (2, 1, 17, 4673), (3, 2, 5, 3137), (5, 1, 18, 2049)],
)
TRITON = Sizes(
    # tiles of 16 to 64 samples, 16 to 256 rows, 16 to 128 pixels; a code larger than a tile takes another path
    batches=[0, 1, 12, 15, 16, 17, 31, 32, 33, 63, 64, 65],
    maps=2,
    codes=[1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 255, 256, 257],
    pixels=[1, 15, 16, 17, 49, 63, 64, 65, 127, 128, 129, 196, 255, 256, 257],
    # on a GPU every new configuration is compiled
    examples=8 if DEVICE.type == "cuda" else 16,
    common=[(12, 2, 33, 196)],
    # the fewer the programs, the more parts the pixels are split into
    few=[(1, 1, 19, 1301)],
)
SIZES = NATIVE if NAME == "native" else TRITON


def _lengths(boundaries):
    return st.one_of(st.sampled_from(boundaries), st.integers(min(boundaries), max(boundaries)))


def _cases(activations, exact):
    sizes = st.tuples(
        _lengths(SIZES.batches), st.integers(1, SIZES.maps), _lengths(SIZES.codes), _lengths(SIZES.pixels)
    )
    return st.builds(
        lambda sizes, dtypes, *others: make_case(sizes, *dtypes, *others),
        sizes,
        st.sampled_from(DTYPE_PAIRS),
        st.sampled_from(activations),
        st.booleans(),
        st.integers(0, 2**31 - 1),
        st.just(exact),
    )


few = settings(max_examples=SIZES.examples, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("name", ARGUMENTS)
@few
@given(case=_cases(("none", "tanh", "sigmoid"), exact=False))
def test_any_sizes(name, case):
    check_kernel(BACKEND, name, case)


# a relu's slope jumps at 0: only sums without rounding errors are on the same side of it in every precision
@pytest.mark.parametrize("name", ["encode", "decode", "reconstruct"])
@few
@given(case=_cases(("relu",), exact=True))
def test_any_sizes_with_relu(name, case):
    check_kernel(BACKEND, name, case)


@pytest.mark.parametrize("name", ARGUMENTS)
@dtype_pairs
@pytest.mark.parametrize("sizes", SIZES.common, ids=str)
def test_common_map_sizes(name, dtype, weight_dtype, sizes):
    check_kernel(BACKEND, name, make_case(sizes, dtype, weight_dtype, "tanh"))


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("dtype", KERNEL_DTYPES, ids=str)
@pytest.mark.parametrize("batch", [47, 48, 49, 64, 65, 96, 97])
def test_batches_around_the_largest_block(name, dtype, batch):
    check_kernel(BACKEND, name, make_case((batch, 2, 21, 53), dtype, dtype, activation="sigmoid"))


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("sizes", SIZES.few, ids=str)
def test_few_samples_of_large_maps(name, dtype, sizes):
    check_kernel(BACKEND, name, make_case(sizes, dtype, dtype, "sigmoid"))


@pytest.mark.parametrize("name", ["encode", "decode", "reconstruct"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_saturated_activations(name, activation):
    case = make_case((5, 3, 6, 37), activation=activation, exact=True)
    check_kernel(BACKEND, name, case._replace(weight=case.weight * 64))


@pytest.mark.parametrize(("left_dtype", "right_dtype"), DTYPE_PAIRS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_outer_of_mixed_dtypes(left_dtype, right_dtype, dtype):
    case = make_case((7, 3, 19, 45))
    left, right = case.codes.to(left_dtype), case.maps.to(right_dtype)
    expected = torch.einsum("bcd,bcs->cds", left.double(), right.double())
    rounding = torch.finfo(dtype).eps / 2
    actual = BACKEND.outer(left, right, dtype)
    assert actual.dtype == dtype
    magnitude = torch.einsum("bcd,bcs->cds", left.double().abs(), right.double().abs())
    assert ((actual.double() - expected).abs() <= rounding * expected.abs() + 8 * 2**-24 * magnitude).all()


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("sizes", [(0, 3, 4, 5), (3, 0, 4, 5), (3, 2, 0, 5), (3, 2, 4, 0)], ids=str)
@pytest.mark.parametrize("backend", [BACKEND, reference], ids=lambda backend: backend.NAME)
def test_empty_inputs(backend, name, sizes):
    # what earlier calls left in the kernels' scratch memory
    run(backend, name, make_case((4, 2, 64, 64)))
    case = make_case(sizes)
    for actual, expected in zip(run(backend, name, case), competitor(name, case), strict=True):
        assert actual.shape == expected.shape
        assert torch.allclose(actual, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("code_size", [4, 300])
def test_reconstruct_returns_only_what_is_asked_for(code_size):
    case = make_case((3, 2, code_size, 35), activation="tanh")
    inputs = ARGUMENTS["reconstruct"](case)[:5]
    full = BACKEND.reconstruct(*inputs, True, True, True)
    for asked in [(False, False, False), (True, False, False), (False, True, False), (False, False, True)]:
        results = BACKEND.reconstruct(*inputs, *asked)
        assert torch.equal(results[0], full[0])
        for wanted, actual, expected in zip(asked, results[1:], full[1:], strict=True):
            assert torch.equal(actual, expected if wanted else expected.new_empty(0))
