"""Sizes to launch configurations: which tiles, how many programs.

From tables, never from timings, so that a result depends on the sizes and the kind of card alone. `SPF_AUTOTUNE=1`
searches instead (`autotune`).
"""

from dataclasses import dataclass, replace
from functools import cache

import torch

# sums of B x C x D or B x C x S elements are cut into programs of this many
SUM_BLOCK = 1024
# the least that an NVIDIA card since sm_80 lets one program take: compute capability 8.6, 8.9 and 12.x
_LEAST_SHARED_BYTES = 99 * 1024
# The code is held in one tile up to these sizes; beyond, a loop over blocks of it makes the products, and
# `reconstruct` leaves the codes' gradient to a second pass over the weight.
_WHOLE_CODE = {
    ("decode", "half"): 256,
    ("decode", "tf32"): 256,
    ("decode", "tf32x3"): 256,
    ("reconstruct", "half"): 256,
}
_WHOLE_CODE_OTHERWISE = 128
_CODE_BLOCK = 64


@dataclass(frozen=True)
class Card:
    """What a configuration depends on.

    Attributes:
        architecture: A key of the tables: "sm_80", "sm_90", "sm_100" or "hip".
        processors: Multiprocessors.
        shared_bytes: Shared memory that one program may take, in bytes.
    """

    architecture: str
    processors: int
    shared_bytes: int = _LEAST_SHARED_BYTES


@dataclass(frozen=True)
class Config:
    """How a kernel is cut into programs.

    Attributes:
        block_b: Samples of a tile. In the tables the most: a batch of up to 16 takes 16.
        block_d: Code elements of a tile. In the tables for a code of 128.
        block_s: Pixels of a tile.
        warps: Of a program.
        stages: Tiles in flight, of the software pipeline.
        parts: Splits of the pixels (encode), tiles a program walks over (decode), chunks of the pixels (reconstruct).
    """

    block_b: int
    block_d: int
    block_s: int
    warps: int
    stages: int
    parts: int = 1


# 16 elements a thread: with more, what waits between the loads and the stores spills
NADAM = Config(1, 16, 128, 4, 1)

Table = dict[tuple[str, str], Config]

# By kernel and precision of the products ("half": bfloat16 and float16). Checked by compiling ahead of time
# (tests/spf_kernels/test_triton_compiled.py): no spills, 16-byte copies of the weights, tensor cores.
_SM_80: Table = {
    ("encode", "half"): Config(64, 64, 128, 4, 4),
    ("encode", "tf32"): Config(64, 64, 64, 4, 4),
    ("encode", "tf32x3"): Config(64, 64, 32, 4, 4),
    ("encode", "ieee"): Config(16, 64, 64, 4, 3),
    ("decode", "half"): Config(64, 128, 64, 4, 4, 8),
    ("decode", "tf32"): Config(32, 128, 64, 4, 3, 8),
    ("decode", "tf32x3"): Config(16, 128, 32, 4, 3, 8),
    ("decode", "ieee"): Config(16, 128, 32, 4, 3, 8),
    ("outer", "half"): Config(64, 64, 128, 4, 1),
    ("outer", "tf32"): Config(32, 64, 128, 4, 1),
    ("outer", "tf32x3"): Config(16, 64, 128, 4, 1),
    ("outer", "ieee"): Config(16, 64, 64, 4, 1),
    ("reconstruct", "half"): Config(32, 128, 64, 8, 4),
    ("reconstruct", "tf32"): Config(32, 128, 32, 4, 3),
    ("reconstruct", "tf32x3"): Config(16, 128, 32, 4, 3),
    ("reconstruct", "ieee"): Config(16, 128, 32, 8, 3),
}
_SM_90: Table = {
    **_SM_80,
    ("encode", "tf32x3"): Config(64, 64, 64, 4, 4),
    ("decode", "tf32x3"): Config(64, 128, 32, 4, 3, 8),
}
_SM_100: Table = {
    **_SM_80,
    ("encode", "tf32x3"): Config(64, 64, 32, 8, 4),
}
# AMD cards have 64 KiB of shared memory
_HIP: Table = {key: replace(config, stages=min(config.stages, 2)) for key, config in _SM_80.items()}
# their warps have 64 threads: with eight of them a thread has too few registers for a code of 256
_HIP["reconstruct", "half"] = Config(32, 128, 64, 4, 2)
TABLES: dict[str, Table] = {"sm_80": _SM_80, "sm_90": _SM_90, "sm_100": _SM_100, "hip": _HIP}


def _divide_up(length: int, block: int) -> int:
    return -(-length // block)


def _power_of_two(length: int, least: int, most: int) -> int:
    return min(max(1 << max(length - 1, 0).bit_length(), least), most)


def _fit_stages(config: Config, card: Card, kernel: str, precision: str, itemsize: int) -> Config:
    """Fewer stages where the tiles in flight would not fit shared memory."""
    # two programs a multiprocessor hide the memory's latency, where it has room for both
    limit = min(card.shared_bytes, max(_LEAST_SHARED_BYTES, card.shared_bytes // 2))
    rows = config.block_d
    if kernel == "encode":
        rows += config.block_b
    elif precision == "tf32x3":
        # the codes' high and low parts, which Triton 3.8 keeps there as well
        limit -= 2 * config.block_b * config.block_d * 4
    if kernel == "reconstruct" and itemsize == 4:
        # that kernel loads an fp32 tile twice
        rows *= 2
    tile = rows * config.block_s * itemsize
    return replace(config, stages=max(1, min(config.stages, limit // tile)))


def _fit_code(config: Config, kernel: str, precision: str, D: int) -> Config:
    """A tile as high as the code where one can be, of about as many bytes as the table's."""
    largest = _WHOLE_CODE.get((kernel, precision), _WHOLE_CODE_OTHERWISE)
    if largest < D:
        if kernel == "reconstruct":
            config = replace(config, block_b=16, warps=config.warps if precision == "half" else 8)
        return replace(config, block_d=_CODE_BLOCK)
    block_d = _power_of_two(D, 16, largest)
    if (kernel, precision) == ("reconstruct", "half"):
        return _fit_sums(replace(config, block_d=block_d))
    # fp32 operands, and many samples' sums, leave no registers for a wider one
    widest = 2 * config.block_s if precision == "half" and config.block_b <= 16 else config.block_s
    block_s = min(config.block_d * config.block_s // block_d, widest)
    config = replace(config, block_d=block_d, block_s=max(block_s, 32))
    if block_d <= 128 or precision == "half":
        return config
    # a code of 256 in fp32 fills the registers of eight warps, and with more samples shared memory
    return replace(config, block_b=16, warps=8)


def _fit_sums(config: Config) -> Config:
    """The tile and warps of `reconstruct` that the sums of the codes' gradient, block_b x block_d registers, leave."""
    if config.block_b > 16 and config.block_d <= 32:
        config = replace(config, block_s=config.block_s // 2)
    return config if config.block_b * config.block_d >= 4096 else replace(config, warps=4)


@cache
def configure(kernel: str, card: Card, precision: str, itemsize: int, B: int, C: int, D: int, S: int) -> Config:
    """The configuration of one call.

    Args:
        kernel: "encode", "decode", "outer" or "reconstruct".
        card: What it runs on.
        precision: Of the products: "half", "tf32", "tf32x3" or "ieee".
        itemsize: Bytes of a weight (or gradient) element.
        B: Batch.
        C: Maps.
        D: Code size.
        S: Pixels.
    """
    config = TABLES[card.architecture][kernel, precision]
    if B <= 16:
        config = replace(config, block_b=16)
    if kernel in ("decode", "reconstruct"):
        config = _fit_code(config, kernel, precision, D)
    else:
        config = replace(config, block_d=_power_of_two(D, 16, config.block_d))
        if kernel == "encode" and config.block_d < 64 and config.block_b > 16:
            # too few rows for the matrix instructions that read shared memory: the operands take registers
            config = replace(config, block_s=max(config.block_s // 2, 32))
    config = replace(config, block_s=_power_of_two(S, 16, config.block_s))
    config = _fit_stages(config, card, kernel, precision, itemsize)
    return replace(config, parts=_parts(kernel, config, card, B, C, D, S))


def _parts(kernel: str, config: Config, card: Card, B: int, C: int, D: int, S: int) -> int:
    blocks = max(1, _divide_up(S, config.block_s))
    groups = max(1, C * _divide_up(B, config.block_b))
    if kernel == "encode":
        # two programs a multiprocessor hide the memory's latency; parts shorter than 4 tiles would not fill a pipeline
        programs = groups * max(1, _divide_up(D, config.block_d))
        return max(1, min(8, 2 * card.processors // programs, blocks // 4))
    if kernel == "decode":
        if config.block_d < D:
            return 1
        # the more tiles a program walks over, the longer its pipeline runs full: eight programs a multiprocessor are
        # enough; a single tile has no pipeline, and the unrolled loop takes more registers
        return min(blocks, max(2, min(config.parts, groups * blocks // (8 * card.processors))))
    if kernel == "reconstruct":
        return max(1, min(6 * card.processors // groups, blocks))
    return 1


@cache
def card_of(device: torch.device) -> Card:
    """The card behind a device; the interpreter's is an sm_90 with so few processors that small tests split too."""
    if device.type == "cpu":
        return Card("sm_90", 4)
    if device.type == "xpu":
        return Card("hip", torch.xpu.get_device_properties(device).max_compute_units)
    properties = torch.cuda.get_device_properties(device)
    if torch.version.hip:
        return Card("hip", properties.multi_processor_count, properties.shared_memory_per_block)
    # capability 12.x, consumer cards, has the matrix instructions of 8.x
    architecture = {9: "sm_90", 10: "sm_100", 11: "sm_100"}.get(properties.major, "sm_80")
    # torch's stubs lack it
    shared_bytes = properties.shared_memory_per_block_optin  # type: ignore[attr-defined]
    return Card(architecture, properties.multi_processor_count, shared_bytes)


def precision_of(card: Card, *dtypes: torch.dtype) -> str:
    """The precision of the products: of the operands' one low precision, else as torch's float32 setting says.

    By default it is tf32x3: three tf32 products, as exact as fp32. `torch.set_float32_matmul_precision("high")` or
    "medium", or `torch.backends.cuda.matmul.fp32_precision = "tf32"`, give tf32.
    """
    if len(set(dtypes)) == 1 and dtypes[0] != torch.float32:
        return "half"
    if card.architecture == "hip":
        return "ieee"
    # knows the older setting too, whose own getter raises where someone has used the newer one
    return "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "tf32x3"
