"""outer: out[c, d, s] = sum over b of left[b, c, d] * right[b, c, s], every dense weight gradient.

Bytes: the result once; left and right come from L2. A program owns BLOCK_D x BLOCK_S of one map, and walks over the
batch: one step for up to BLOCK_B samples.
"""

import triton
import triton.language as tl

from spf_kernels.backends.triton.elementwise import multiply_add


@triton.jit(do_not_specialize=["B", "D", "S", "left_b", "left_c", "right_b", "right_c"])
def outer_kernel(
    left,
    right,
    out,
    B,
    D,
    S,
    left_b,
    left_c,
    right_b,
    right_c,
    PRECISION: tl.constexpr,
    ALIGNMENT: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_S: tl.constexpr,
):
    """S, right_b and right_c in units of ALIGNMENT; left_b and left_c in elements."""
    S = S * ALIGNMENT
    column_blocks = tl.cdiv(S, BLOCK_S)
    row_blocks = tl.cdiv(D, BLOCK_D)
    program = tl.program_id(0)
    s = program % column_blocks * BLOCK_S + tl.arange(0, BLOCK_S)
    program = program // column_blocks
    d = program % row_blocks * BLOCK_D + tl.arange(0, BLOCK_D)
    c = (program // row_blocks).to(tl.int64)

    total = tl.zeros([BLOCK_D, BLOCK_S], tl.float32)
    for k in tl.range(0, B, BLOCK_B):
        b = k + tl.arange(0, BLOCK_B)
        sample = b.to(tl.int64)
        from_left = tl.load(
            left + c * left_c + sample[None, :] * left_b + d[:, None],
            mask=(d < D)[:, None] & (b < B)[None, :],
            other=0.0,
        )
        from_right = tl.load(
            right + (c * right_c + sample[:, None] * right_b) * ALIGNMENT + s[None, :],
            mask=(b < B)[:, None] & (s < S)[None, :],
            other=0.0,
        )
        total = multiply_add(from_left, from_right, total, PRECISION)
    rows = out + (c * D + d.to(tl.int64)[:, None]) * S
    tl.store(rows + s[None, :], total.to(out.dtype.element_ty), mask=(d < D)[:, None] & (s < S)[None, :])
