"""decode: maps[b, c, s] = act(sum over d of codes[b, c, d] * weight[c, d, s] + bias[c, s]).

Bytes: the weight once, the codes once a program (from L2), the maps once. A program owns BLOCK_B samples and TILES
runs of BLOCK_S pixels of one map. The batch is the matrix unit's first axis: with the weight there, its transposed
fp32 tiles would be copied 4 bytes at a time.
"""

import triton
import triton.language as tl

from spf_kernels.backends.triton.elementwise import activate, multiply_add, multiply_long_code


@triton.jit(do_not_specialize=["B", "C", "D", "S", "stride_b", "stride_c"])
def decode_kernel(
    codes,
    weight,
    bias,
    maps,
    B,
    C,
    D,
    S,
    stride_b,
    stride_c,
    ACTIVATION: tl.constexpr,
    PRECISION: tl.constexpr,
    ALIGNMENT: tl.constexpr,
    WHOLE_CODE: tl.constexpr,
    TILES: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_S: tl.constexpr,
):
    """S in units of ALIGNMENT; stride_b and stride_c of the codes in elements; WHOLE_CODE: BLOCK_D >= D."""
    S = S * ALIGNMENT
    batch_blocks = tl.cdiv(B, BLOCK_B)
    runs = tl.cdiv(S, TILES * BLOCK_S)
    program = tl.program_id(0)
    b = program % batch_blocks * BLOCK_B + tl.arange(0, BLOCK_B)
    program = program // batch_blocks
    first = program % runs * (TILES * BLOCK_S)
    c = (program // runs).to(tl.int64)

    d = tl.arange(0, BLOCK_D)
    samples = codes + c * stride_c + b.to(tl.int64)[:, None] * stride_b
    rows = weight + (c * D + d.to(tl.int64)[:, None]) * S
    if WHOLE_CODE:
        z = tl.load(samples + d[None, :], mask=(b < B)[:, None] & (d < D)[None, :], other=0.0)
    for tile in tl.range(0, TILES):
        s = first + tile * BLOCK_S + tl.arange(0, BLOCK_S)
        total = tl.zeros([BLOCK_B, BLOCK_S], tl.float32)
        if WHOLE_CODE:
            w = tl.load(
                rows + s[None, :],
                mask=(d < D)[:, None] & (s < S)[None, :],
                other=0.0,
                eviction_policy="evict_first",
            )
            total = multiply_add(z, w, total, PRECISION)
        else:
            total = multiply_long_code(samples, rows, s, b < B, s < S, D, S, total, PRECISION, BLOCK_D)
        if bias is not None:
            row = tl.load(bias + c * S + s, mask=s < S, other=0.0).to(tl.float32)[None, :]
            if weight.dtype.element_ty == tl.float32:
                total += row
            else:
                # the same sum: of an addition Triton makes the product's start, and 3.5 then fails for sm_100
                total = tl.fma(total, 1.0, row)
        total = activate(total, ACTIVATION)
        out = (b.to(tl.int64)[:, None] * C + c) * S + s[None, :]
        tl.store(maps + out, total.to(maps.dtype.element_ty), mask=(b < B)[:, None] & (s < S)[None, :])
