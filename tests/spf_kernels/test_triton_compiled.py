"""The Triton kernels compiled for real cards at real sizes: no spills, wide copies, tensor cores where meant."""

import re
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed: nothing to compile with")

import triton

import spf_kernels
from spf_kernels.backends import triton as backend
from spf_kernels.backends.triton import autotune
from spf_kernels.backends.triton.launch import Card, Config, card_of, configure

from .compiled import CARDS, TARGETS, Machine, launches, nadam_launches

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


@pytest.mark.parametrize("sizes", [PAPER, LARGE_CODE, LARGE_BOTH, FEW_MAPS], ids=str)
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


# compute capability, shared memory a program may take (bytes), table: A100, RTX 3090, RTX 4090, H100, B200, RTX 5090
CARDS_SOLD = [
    (8, 0, 166912, "sm_80"),
    (8, 6, 101376, "sm_80"),
    (8, 9, 101376, "sm_80"),
    (9, 0, 232448, "sm_90"),
    (10, 0, 232448, "sm_100"),
    (12, 0, 101376, "sm_80"),
]


@pytest.mark.parametrize(("major", "minor", "shared", "table"), CARDS_SOLD)
def test_the_card_tells_its_shared_memory(monkeypatch, major, minor, shared, table):
    properties = SimpleNamespace(
        major=major, minor=minor, multi_processor_count=100, shared_memory_per_block_optin=shared
    )
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    assert card_of.__wrapped__(torch.device("cuda", 0)) == Card(table, 100, shared)


def test_more_shared_memory_takes_more_stages():
    sizes = ("reconstruct", "tf32x3", 4, *PAPER)
    stages = {kib: configure(sizes[0], Card("sm_90", 132, kib * 1024), *sizes[1:]).stages for kib in (227, 99, 64)}
    assert stages == {227: 3, 99: 2, 64: 1}


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
@pytest.mark.parametrize("sizes", [PAPER, LARGE_CODE], ids=str)
def test_a_card_of_little_shared_memory_gets_programs_that_fit(monkeypatch, architecture, sizes):
    monkeypatch.setitem(CARDS, architecture, Card(architecture, 132, 99 * 1024))
    for launch in launches(monkeypatch, architecture, "tf32x3", sizes):
        assert launch.compile(architecture).metadata.shared <= 99 * 1024, launch


class _Kernel:
    """Wants 40 bytes of shared memory a stage, of which there are 100."""

    fn = SimpleNamespace(__name__="encode_kernel")

    def __init__(self, resource):
        self.resource, self.tried = resource, []

    def __getitem__(self, _programs):
        return self

    def __call__(self, *_arguments, num_stages, **_constants):
        self.tried.append(num_stages)
        if 40 * num_stages > 100:
            raise triton.OutOfResources(40 * num_stages, 100, self.resource)


def test_a_launch_that_does_not_fit_takes_fewer_stages_and_is_counted():
    kernel = _Kernel("shared memory")
    spf_kernels.reset_counters()
    backend._launch(kernel, 1, (), {}, Config(16, 16, 16, 4, 4))
    assert kernel.tried == [4, 3, 2]
    assert sum("bytes of shared memory wanted" in event for event in spf_kernels.counters()) == 2


@pytest.mark.parametrize(("resource", "trial"), [("threads", None), ("shared memory", Config(16, 16, 16, 4, 4))])
def test_other_resources_and_trials_of_a_search_raise(monkeypatch, resource, trial):
    kernel = _Kernel(resource)
    monkeypatch.setattr(autotune, "_trial", trial)
    with pytest.raises(triton.OutOfResources):
        backend._launch(kernel, 1, (), {}, Config(16, 16, 16, 4, 4))
    assert kernel.tried == [4]
