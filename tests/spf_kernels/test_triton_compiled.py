"""The Triton kernels compiled for real cards at real sizes: no spills, wide copies, tensor cores where meant."""

import re

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed: nothing to compile with")

from .compiled import TARGETS, Machine, launches, nadam_launches

NVIDIA = ("sm_80", "sm_90", "sm_100")
# of a program: all cards of compute capability 8.x, those of 9.0 and 10.0, and AMD's CDNA
SHARED_KIB = {"sm_80": 99, "sm_90": 227, "sm_100": 227, "hip": 64}
PAPER, LARGE_BATCH, LARGE_CODE = (12, 128, 128, 4096), (64, 128, 128, 4096), (12, 128, 256, 4096)
LARGE_BOTH, LARGE_BATCH_SMALL_CODE = (64, 128, 256, 4096), (64, 128, 32, 4096)
SMALL_CODE, SMALL_MAPS, FEW_MAPS = (12, 128, 32, 4096), (1, 128, 128, 1024), (12, 16, 128, 4096)
HUGE = (12, 128, 128, 512 * 512)
SIZES = (PAPER, LARGE_BATCH, LARGE_CODE, LARGE_BOTH, LARGE_BATCH_SMALL_CODE, SMALL_CODE, SMALL_MAPS, FEW_MAPS, HUGE)
# kernels whose arithmetic is on the weights' tiles
PRODUCTS = ("encode", "decode", "outer", "reconstruct")
TENSOR_CORES = ("HMMA", "HGMMA", "UTCHMMA")


def _weight_bytes(launch):
    # a tile of the weights is as wide as the maps' dtype: the inputs share one here
    config, dtype = launch.config, launch.arguments[0].dtype
    return config.block_d * config.block_s * dtype.itemsize


def _wide_copies(machine):
    # into shared memory, or into registers where a loop has one step
    return machine.count("LDGSTS", "128") + machine.count("LDG", "128")


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("precision", ["bfloat16", "tf32x3"])
@pytest.mark.parametrize("architecture", NVIDIA)
def test_real_sizes(monkeypatch, architecture, precision, sizes):
    for launch in launches(monkeypatch, architecture, precision, sizes):
        compiled = launch.compile(architecture)
        assert compiled.metadata.shared <= SHARED_KIB[architecture] * 1024, launch
        machine = Machine(compiled)
        assert machine.spilled == 0, launch.name
        if launch.name not in PRODUCTS:
            continue
        assert any(machine.count(name) for name in TENSOR_CORES), launch.name
        threads = 32 * launch.config.warps
        if launch.name == "outer":
            assert machine.count("STG", "128") * 16 * threads >= _weight_bytes(launch)
        else:
            # at least one whole tile in copies of 16 bytes
            assert _wide_copies(machine) * 16 * threads >= _weight_bytes(launch), launch.name


@pytest.mark.parametrize(("architecture", "instruction"), [("sm_90", "HGMMA"), ("sm_100", "UTCHMMA")])
@pytest.mark.parametrize("precision", ["bfloat16", "float16", "tf32", "tf32x3"])
def test_encode_uses_the_newest_matrix_instruction(monkeypatch, architecture, instruction, precision):
    encode = launches(monkeypatch, architecture, precision, PAPER)[0]
    machine = Machine(encode.compile(architecture))
    assert machine.count(instruction) > 0
    assert machine.spilled == 0


@pytest.mark.parametrize("state_dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("architecture", NVIDIA)
def test_nadam(monkeypatch, architecture, state_dtype):
    for launch in nadam_launches(monkeypatch, state_dtype, PAPER):
        machine = Machine(launch.compile(architecture))
        assert machine.spilled == 0, launch.name
        threads = 32 * launch.config.warps
        loads = launch.config.block_d * launch.config.block_s * (4 + 2 * state_dtype.itemsize)
        assert machine.count("LDG", "128") * 16 * threads >= loads, launch.name
        assert machine.count("STG", "128") * 16 * threads >= loads, launch.name


@pytest.mark.parametrize("pixels", [49, 196, 3136])
@pytest.mark.parametrize("precision", ["bfloat16", "tf32x3"])
def test_odd_map_sizes_compile(monkeypatch, precision, pixels):
    for launch in launches(monkeypatch, "sm_90", precision, (12, 128, 128, pixels)):
        compiled = launch.compile("sm_90")
        assert compiled.metadata.shared <= SHARED_KIB["sm_90"] * 1024, launch
        machine = Machine(compiled)
        wide = 8 if precision == "bfloat16" else 4
        if launch.name in ("encode", "decode") and pixels % wide == 0:
            assert _wide_copies(machine) * 16 * 32 * launch.config.warps >= _weight_bytes(launch), launch.name


@pytest.mark.parametrize("sizes", [PAPER, LARGE_CODE, FEW_MAPS], ids=str)
@pytest.mark.parametrize("precision", ["bfloat16", "tf32x3"])
def test_amd(monkeypatch, precision, sizes):
    state_dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    for launch in launches(monkeypatch, "hip", precision, sizes) + nadam_launches(monkeypatch, state_dtype, sizes):
        compiled = launch.compile("hip")
        assert compiled.metadata.shared <= SHARED_KIB["hip"] * 1024
        code = compiled.asm["amdgcn"]
        assert "gfx942" in code
        assert re.search(r"\.vgpr_spill_count: +0\b", code), launch.name
        if launch.name in PRODUCTS:
            assert "v_mfma" in code, launch.name


def test_every_architecture_of_the_tables_is_compiled_here():
    from spf_kernels.backends.triton.launch import TABLES

    assert set(TABLES) == set(TARGETS)
