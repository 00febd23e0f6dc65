"""The same bits every time, wherever a sample stands in its batch, and whoever else computes meanwhile."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from .helpers import ARGUMENTS, BACKEND, DTYPES, INTERPRETED, KERNEL_DTYPES, NAME, make_case, needs_kernels, run

pytestmark = needs_kernels

# enough pixels for every kernel to split them, and to sum the parts
SIZES = (18, 3, 37, 3136) if NAME == "native" else (9, 1, 37, 600)


@pytest.mark.usefixtures("isa", "poisoned_outputs")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ARGUMENTS)
def test_same_bits_every_time(name, dtype):
    case = make_case(SIZES, dtype, dtype, "tanh")
    first = run(BACKEND, name, case)
    for _ in range(3):
        for actual, expected in zip(run(BACKEND, name, case), first, strict=True):
            assert torch.equal(actual, expected)


blas_decides = pytest.mark.skipif(
    INTERPRETED,
    reason="Triton's interpreter multiplies by numpy's BLAS, whose bits depend on the row on some processors",
)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", KERNEL_DTYPES, ids=str)
@pytest.mark.parametrize(
    "name", [pytest.param("encode", marks=blas_decides), "decode", pytest.param("reconstruct", marks=blas_decides)]
)
def test_a_samples_results_do_not_depend_on_its_place_in_the_batch(name, dtype):
    # what lets a cache of results, or a resumed run, be compared by bits
    case = make_case((24, 2, 33, 500), dtype, dtype, "tanh")
    shifted = case._replace(maps=case.maps.roll(12, 0), codes=case.codes.roll(12, 0))
    for actual, expected in zip(run(BACKEND, name, shifted), run(BACKEND, name, case), strict=True):
        assert torch.equal(actual, expected.roll(12, 0))


@pytest.mark.skipif(INTERPRETED, reason="Triton's interpreter runs one kernel at a time")
def test_calls_from_many_threads_do_not_disturb_each_other():
    cases = [make_case((5 + seed, 3, 21, 300 + seed), activation="tanh", seed=seed) for seed in range(8)]
    expected = [run(BACKEND, name, case) for case in cases for name in ARGUMENTS]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            futures = [pool.submit(run, BACKEND, name, case) for case in cases for name in ARGUMENTS]
            for future, results in zip(futures, expected, strict=True):
                for actual, first in zip(future.result(), results, strict=True):
                    assert torch.equal(actual, first)
