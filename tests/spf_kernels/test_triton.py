"""What only the Triton kernels have: splits, codes larger than a tile, alignments, copies, offsets beyond 32 bits."""

import pytest
import torch

import spf_kernels
from spf_kernels.backends.triton import launch

from .helpers import ARGUMENTS, BACKEND, DEVICE, DTYPES, INTERPRETED, check_kernel, dtype_pairs, make_case, run

pytestmark = pytest.mark.usefixtures("poisoned_outputs")


def _configuration(name, case):
    card = launch.card_of(DEVICE)
    precision = launch.precision_of(card, case.maps.dtype, case.weight.dtype)
    (B, C, S), D = case.maps.shape, case.weight.shape[1]
    return launch.configure(name, card, precision, case.weight.itemsize, B, C, D, S)


# what matters of a dtype for alignments
widths = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
# a GPU has more processors to fill before a program of decode walks over more than one tile
WALK = (3, 8, 20, 1000) if INTERPRETED else (3, 33, 20, 16400)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("name", "sizes"),
    [("encode", (3, 1, 20, 1100)), ("encode", (17, 2, 16, 2049)), ("decode", WALK), ("reconstruct", (3, 1, 20, 1100))],
    ids=str,
)
def test_pixels_cut_into_parts(name, sizes, dtype):
    case = make_case(sizes, dtype, dtype, "tanh")
    assert _configuration(name, case).parts > 1
    check_kernel(BACKEND, name, case)


@dtype_pairs
@pytest.mark.parametrize("name", ["decode", "reconstruct"])
def test_codes_larger_than_a_tile(name, dtype, weight_dtype):
    case = make_case((5, 1, 300, 70), dtype, weight_dtype, "sigmoid")
    assert _configuration(name, case).block_d < 300
    check_kernel(BACKEND, name, case)


# multiples of 1, 2, 4, 8 and 16: what the compiler is told of the rows
@pytest.mark.parametrize("pixels", [35, 34, 36, 40, 48])
@widths
@pytest.mark.parametrize("name", ARGUMENTS)
def test_every_alignment_of_the_rows(name, dtype, pixels):
    check_kernel(BACKEND, name, make_case((3, 2, 17, pixels), dtype, dtype, "tanh"))


@pytest.mark.parametrize("pixels", [45, 48])
@pytest.mark.parametrize("gap", [1, 4, 8])
@widths
def test_maps_are_copied_where_a_copys_rows_are_aligned_and_theirs_are_not(dtype, gap, pixels):
    case = make_case((3, 2, 8, pixels), dtype, dtype)
    apart = torch.cat([case.maps, case.maps.new_zeros(3, 2, gap)], 2)[..., :pixels]
    vector = 16 // dtype.itemsize
    copied = pixels % vector == 0 and gap % vector != 0
    for kernel in (
        lambda maps: BACKEND.encode(maps, case.weight, None, "none"),
        lambda maps: BACKEND.outer(case.codes, maps, dtype),
        lambda maps: BACKEND.reconstruct(case.codes, maps, case.weight, None, "none", True, False, False)[1],
    ):
        spf_kernels.reset_counters()
        assert torch.equal(kernel(apart), kernel(case.maps))
        assert spf_kernels.counters() == ({"maps copied: rows not 16 bytes aligned": 1} if copied else {})


def test_codes_and_parameters_are_copied_and_counted():
    case = make_case((3, 2, 8, 48))
    gapped = case.apply(lambda tensor: torch.stack([tensor, tensor], -1)[..., 0])
    for name in ("encode", "decode"):
        assert torch.equal(run(BACKEND, name, gapped)[0], run(BACKEND, name, case)[0])
    assert spf_kernels.counters() == {
        "gradient copied: pixel stride 2": 1,
        "codes copied: stride 2": 1,
        "weight copied: not contiguous": 2,
        "bias copied: not contiguous": 2,
    }


def test_a_configuration_depends_on_nothing_but_its_arguments():
    arguments = ("encode", launch.card_of(DEVICE), "half", 2, 12, 128, 128, 4096)
    first = launch.configure(*arguments)
    launch.configure.cache_clear()
    assert launch.configure(*arguments) == first
