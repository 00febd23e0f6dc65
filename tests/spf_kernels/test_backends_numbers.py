"""The native kernels against float64, within an error budget (see `helpers.assert_within_budget`)."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spf_kernels.backends import native, reference

from .helpers import ACTIVATIONS, ARGUMENTS, DTYPES, ISAS, check_kernel, competitor, make_case, needs_native, run

pytestmark = [needs_native, pytest.mark.usefixtures("poisoned_outputs")]

# lengths around the boundaries of the tiles: 12 and 48 samples, 16, 32 and 128 rows, 384 and 512 pixels
_BATCHES = st.one_of(st.sampled_from([0, 1, 5, 6, 7, 11, 12, 13, 23, 24, 25]), st.integers(0, 40))
_MAPS = st.integers(1, 9)
_CODES = st.one_of(st.sampled_from([1, 15, 16, 17, 31, 32, 33, 127, 128, 129]), st.integers(1, 140))
_PIXELS = st.one_of(st.sampled_from([1, 15, 16, 17, 49, 196, 383, 384, 385, 511, 512, 513]), st.integers(1, 900))

small_sizes = st.tuples(_BATCHES, _MAPS, _CODES, _PIXELS)
cases = st.builds(
    make_case,
    small_sizes,
    st.sampled_from(DTYPES),
    st.sampled_from(DTYPES),
    st.sampled_from(("none", "tanh", "sigmoid")),
    st.booleans(),
    st.integers(0, 2**31 - 1),
)
# a relu's slope jumps at 0: only sums without rounding errors are on the same side of it in every precision
relu_cases = st.builds(
    make_case,
    small_sizes,
    st.sampled_from(DTYPES),
    st.sampled_from(DTYPES),
    st.just("relu"),
    st.booleans(),
    st.integers(0, 2**31 - 1),
    st.just(True),
)
few = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", ARGUMENTS)
@few
@given(case=cases)
def test_any_sizes(name, isa, case):
    native.extension().select_isa(isa)
    check_kernel(native, name, case)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", ["encode", "decode", "reconstruct"])
@few
@given(case=relu_cases)
def test_any_sizes_with_relu(name, isa, case):
    native.extension().select_isa(isa)
    check_kernel(native, name, case)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("weight_dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("sizes", [(13, 3, 17, 49), (12, 2, 33, 196), (25, 1, 9, 3136)], ids=str)
def test_common_map_sizes(name, isa, dtype, weight_dtype, sizes):
    native.extension().select_isa(isa)
    check_kernel(native, name, make_case(sizes, dtype, weight_dtype, "tanh"))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("batch", [47, 48, 49, 96, 97])
def test_batches_around_the_largest_block(name, isa, batch):
    native.extension().select_isa(isa)
    check_kernel(native, name, make_case((batch, 2, 21, 53), activation="sigmoid"))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("sizes", [(1, 1, 19, 9301), (2, 1, 17, 4673), (3, 2, 5, 3137), (5, 1, 18, 2049)], ids=str)
def test_few_samples_of_large_maps(name, isa, dtype, sizes):
    # the fewer the samples, the more pixels of them fit in L1 at once
    native.extension().select_isa(isa)
    check_kernel(native, name, make_case(sizes, dtype, dtype, "sigmoid"))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_a_power_of_two_apart_and_streamed_outputs(name, isa, dtype):
    native.extension().select_isa(isa)
    # 16 MiB (8 MiB in bfloat16) of weights: from 8 MiB on `outer` writes past the caches
    check_kernel(native, name, make_case((3, 8, 128, 4096), dtype, dtype))


@pytest.mark.parametrize("name", ["encode", "decode", "reconstruct"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_saturated_activations(name, activation):
    case = make_case((5, 3, 6, 37), activation=activation, exact=True)
    check_kernel(native, name, case._replace(weight=case.weight * 64))


@pytest.mark.parametrize("left_dtype", DTYPES, ids=str)
@pytest.mark.parametrize("right_dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_outer_of_mixed_dtypes(left_dtype, right_dtype, dtype):
    case = make_case((7, 3, 19, 45))
    left, right = case.codes.to(left_dtype), case.maps.to(right_dtype)
    expected = torch.einsum("bcd,bcs->cds", left.double(), right.double())
    rounding = torch.finfo(dtype).eps / 2
    actual = native.outer(left, right, dtype)
    assert actual.dtype == dtype
    magnitude = torch.einsum("bcd,bcs->cds", left.double().abs(), right.double().abs())
    assert ((actual.double() - expected).abs() <= rounding * expected.abs() + 8 * 2**-24 * magnitude).all()


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("sizes", [(0, 3, 4, 5), (3, 0, 4, 5), (3, 2, 0, 5), (3, 2, 4, 0)], ids=str)
@pytest.mark.parametrize("backend", [native, reference], ids=lambda backend: backend.NAME)
def test_empty_inputs(backend, name, sizes):
    # what earlier calls left in the kernels' scratch memory
    run(backend, name, make_case((4, 2, 64, 64)))
    case = make_case(sizes)
    for actual, expected in zip(run(backend, name, case), competitor(name, case), strict=True):
        assert actual.shape == expected.shape
        assert torch.allclose(actual, expected, rtol=1e-6, atol=0)


def test_reconstruct_returns_only_what_is_asked_for():
    case = make_case((3, 2, 4, 35), activation="tanh")
    inputs = ARGUMENTS["reconstruct"](case)[:5]
    full = native.reconstruct(*inputs, True, True, True)
    for asked in [(False, False, False), (True, False, False), (False, True, False), (False, False, True)]:
        results = native.reconstruct(*inputs, *asked)
        assert torch.equal(results[0], full[0])
        for wanted, actual, expected in zip(asked, results[1:], full[1:], strict=True):
            assert torch.equal(actual, expected if wanted else expected.new_empty(0))


@pytest.mark.parametrize("isa", ISAS)
def test_environment_forces_the_instruction_set(isa, fresh_python):
    code = "from spf_kernels.backends import native; print(native.extension().selected_isa())"
    process = fresh_python(code, SPF_ISA=isa)
    assert process.stdout.strip() == isa, process.stderr


def test_unknown_instruction_set_is_refused(fresh_python):
    process = fresh_python(
        "import torch, spf_kernels; spf_kernels.SPFFlatten(1, 2, 3)(torch.ones(1, 1, 2, 2))", SPF_ISA="mmx"
    )
    assert process.returncode == 1
    assert process.stderr.strip().splitlines()[-1].startswith("ValueError: instruction set 'mmx' is not available here")
    with pytest.raises(ValueError, match=r"'mmx' is not available here; available: .*baseline"):
        native.extension().select_isa("mmx")
