"""encode: codes[b, c, d] = act(sum over s of weight[c, d, s] * maps[b, c, s] + bias[c, d]).

Bytes: the weight once, the maps once a block of code elements (from L2), the codes once. A program owns BLOCK_D code
elements of one map and BLOCK_B samples; the code is the matrix unit's first axis, so that a batch of 12 fills its
second one. Too few programs for the card split the pixels; the parts are summed in a fixed order by a second launch.
"""

import triton
import triton.language as tl

from spf_kernels.backends.triton.elementwise import activate, multiply_add


@triton.jit(do_not_specialize=["B", "C", "D", "S", "stride_b", "stride_c"])
def encode_kernel(
    maps,
    weight,
    bias,
    codes,
    B,
    C,
    D,
    S,
    stride_b,
    stride_c,
    ACTIVATION: tl.constexpr,
    PRECISION: tl.constexpr,
    ALIGNMENT: tl.constexpr,
    SPLITS: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_S: tl.constexpr,
):
    """S, stride_b and stride_c in units of ALIGNMENT; codes is (SPLITS, B, C, D), fp32 where SPLITS > 1."""
    S = S * ALIGNMENT
    batch_blocks = tl.cdiv(B, BLOCK_B)
    row_blocks = tl.cdiv(D, BLOCK_D)
    program = tl.program_id(0)
    b = program % batch_blocks * BLOCK_B + tl.arange(0, BLOCK_B)
    program = program // batch_blocks
    split = program % SPLITS
    program = program // SPLITS
    d = program % row_blocks * BLOCK_D + tl.arange(0, BLOCK_D)
    c = (program // row_blocks).to(tl.int64)

    rows = weight + (c * D + d.to(tl.int64)[:, None]) * S
    samples = maps + (c * stride_c + b.to(tl.int64)[None, :] * stride_b) * ALIGNMENT
    span = tl.cdiv(tl.cdiv(S, BLOCK_S), SPLITS) * BLOCK_S
    begin = split * span
    total = tl.zeros([BLOCK_D, BLOCK_B], tl.float32)
    for k in tl.range(begin, tl.minimum(begin + span, S), BLOCK_S):
        s = k + tl.arange(0, BLOCK_S)
        w = tl.load(
            rows + s[None, :],
            mask=(d < D)[:, None] & (s < S)[None, :],
            other=0.0,
            eviction_policy="evict_first",
        )
        x = tl.load(samples + s[:, None], mask=(s < S)[:, None] & (b < B)[None, :], other=0.0)
        total = multiply_add(w, x, total, PRECISION)

    valid = (d < D)[:, None] & (b < B)[None, :]
    if SPLITS == 1:
        if bias is not None:
            total += tl.load(bias + c * D + d, mask=d < D, other=0.0).to(tl.float32)[:, None]
        total = activate(total, ACTIVATION)
    out = ((split.to(tl.int64) * B + b[None, :]) * C + c) * D + d[:, None]
    tl.store(codes + out, total.to(codes.dtype.element_ty), mask=valid)


@triton.jit(do_not_specialize=["B", "C", "D"])
def encode_sum_kernel(
    parts,
    bias,
    codes,
    B,
    C,
    D,
    ACTIVATION: tl.constexpr,
    SPLITS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The parts (SPLITS, B, C, D) of `encode_kernel`, summed in order, to codes (B, C, D)."""
    rows = tl.cast(C, tl.int64) * D
    elements = B * rows
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.float32)
    for split in tl.static_range(SPLITS):
        total += tl.load(parts + split * elements + i, mask=i < elements, other=0.0)
    if bias is not None:
        total += tl.load(bias + i % rows, mask=i < elements, other=0.0).to(tl.float32)
    tl.store(codes + i, activate(total, ACTIVATION).to(codes.dtype.element_ty), mask=i < elements)
