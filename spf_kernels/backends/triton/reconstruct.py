"""reconstruct: the loss of decode(codes) against the maps, and what its gradients are made of, in one pass.

Bytes: the weight once, the maps once, the error once where it is wanted; the decoded maps are never written. A program
owns BLOCK_B samples and one chunk of the pixels of one map, and keeps its part of the loss and of the codes' gradient
in registers; the chunks' parts are summed in a fixed order by a second launch. Where a code does not fit one tile
(BLOCK_D < D), the codes' gradient is left to `encode` of the error.
"""

import triton
import triton.language as tl

from spf_kernels.backends.triton.elementwise import (
    activate,
    multiply_add,
    multiply_add_parts,
    multiply_long_code,
    slope,
)


@triton.jit(do_not_specialize=["B", "C", "D", "S", "codes_b", "codes_c", "maps_b", "maps_c"])
def reconstruct_kernel(
    codes,
    maps,
    weight,
    bias,
    loss,
    error,
    residual,
    gradient,
    B,
    C,
    D,
    S,
    codes_b,
    codes_c,
    maps_b,
    maps_c,
    ACTIVATION: tl.constexpr,
    PRECISION: tl.constexpr,
    ALIGNMENT: tl.constexpr,
    WHOLE_CODE: tl.constexpr,
    CHUNKS: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_S: tl.constexpr,
):
    """S, maps_b and maps_c in units of ALIGNMENT; loss (B, C, CHUNKS) and gradient (CHUNKS, B, C, D) in fp32.

    An output that is None is not wanted.
    """
    S = S * ALIGNMENT
    batch_blocks = tl.cdiv(B, BLOCK_B)
    program = tl.program_id(0)
    b = program % batch_blocks * BLOCK_B + tl.arange(0, BLOCK_B)
    program = program // batch_blocks
    chunk = program % CHUNKS
    c = (program // CHUNKS).to(tl.int64)

    d = tl.arange(0, BLOCK_D)
    sample = b.to(tl.int64)
    code_rows = codes + c * codes_c + sample[:, None] * codes_b
    map_rows = maps + (c * maps_c + sample[:, None] * maps_b) * ALIGNMENT
    out_rows = (sample[:, None] * C + c) * S
    rows = weight + (c * D + d.to(tl.int64)[:, None]) * S
    if WHOLE_CODE:
        z = tl.load(code_rows + d[None, :], mask=(b < B)[:, None] & (d < D)[None, :], other=0.0)
    losses = tl.zeros([BLOCK_B], tl.float32)
    if gradient is not None:
        total = tl.zeros([BLOCK_B, BLOCK_D], tl.float32)
    span = tl.cdiv(tl.cdiv(S, BLOCK_S), CHUNKS) * BLOCK_S
    begin = chunk * span
    for k in tl.range(begin, tl.minimum(begin + span, S), BLOCK_S):
        s = k + tl.arange(0, BLOCK_S)
        valid = (b < B)[:, None] & (s < S)[None, :]
        y = tl.zeros([BLOCK_B, BLOCK_S], tl.float32)
        if WHOLE_CODE:
            w = tl.load(
                rows + s[None, :],
                mask=(d < D)[:, None] & (s < S)[None, :],
                other=0.0,
                eviction_policy="evict_first",
            )
            y = multiply_add(z, w, y, PRECISION)
        else:
            y = multiply_long_code(code_rows, rows, s, b < B, s < S, D, S, y, PRECISION, BLOCK_D)
        if bias is not None:
            y += tl.load(bias + c * S + s, mask=s < S, other=0.0).to(tl.float32)[None, :]
        y = activate(y, ACTIVATION)
        x = tl.load(map_rows + s[None, :], mask=valid, other=0.0).to(tl.float32)
        r = tl.where(valid, y - x, 0.0)
        # a NaN of an infinite code times no pixel must not reach the gradient
        e = tl.where(valid, r * slope(y, ACTIVATION), 0.0)
        losses += tl.sum(r * r, 1)
        if error is not None:
            tl.store(error + out_rows + s[None, :], e.to(error.dtype.element_ty), mask=valid)
        if residual is not None:
            tl.store(residual + out_rows + s[None, :], r.to(residual.dtype.element_ty), mask=valid)
        if gradient is not None:
            # fp32 only: one tile in the two layouts of the two products would not be pipelined; this one comes from L2
            if w.dtype == tl.float32:
                w = tl.load(
                    rows + s[None, :],
                    mask=(d < D)[:, None] & (s < S)[None, :],
                    other=0.0,
                )
            if z.dtype == w.dtype and w.dtype != tl.float32:
                total = multiply_add_parts(e, tl.trans(w), total)
            else:
                total = multiply_add(e, tl.trans(w), total, PRECISION)
    tl.store(loss + (sample * C + c) * CHUNKS + chunk, losses, mask=b < B)
    if gradient is not None:
        out = ((chunk.to(tl.int64) * B + b[:, None]) * C + c) * D + d[None, :]
        tl.store(gradient + out, total, mask=(b < B)[:, None] & (d < D)[None, :])


@triton.jit(do_not_specialize=["B", "elements", "parts_of_loss"])
def reconstruct_sum_kernel(
    partial_loss,
    partial_gradient,
    loss,
    gradient,
    B,
    elements,
    parts_of_loss,
    CHUNKS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The first B programs sum a sample's losses (B, parts_of_loss), the others the gradients (CHUNKS, elements)."""
    program = tl.program_id(0)
    lanes = tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK], tl.float32)
    if program < B:
        row = partial_loss + program.to(tl.int64) * parts_of_loss
        for k in tl.range(0, parts_of_loss, BLOCK):
            total += tl.load(row + k + lanes, mask=k + lanes < parts_of_loss, other=0.0)
        tl.store(loss + program, tl.sum(total, 0))
    elif partial_gradient is not None:
        i = (program - B).to(tl.int64) * BLOCK + lanes
        for chunk in tl.static_range(CHUNKS):
            total += tl.load(partial_gradient + tl.cast(chunk, tl.int64) * elements + i, mask=i < elements, other=0.0)
        tl.store(gradient + i, total, mask=i < elements)
