"""nadam_: one step of NAdam in place, from a dense gradient or from the factors of one.

Bytes: weight, momentum and variance once in and once out, the factors from L2 (or the gradient once). The factored
gradient of a tile is made in registers by plain fp32 multiply-adds: a batch of 64 takes a third of the time that the
memory needs, and no precision is lost to the matrix unit.
"""

import triton
import triton.language as tl


@triton.jit
def _random_bits(index, key):
    """`reference.noise_bits` of these elements."""
    x = index.to(tl.uint32) ^ tl.cast(key, tl.uint32)
    x = (x ^ (x >> 16)) * tl.cast(0x7FEB352D, tl.uint32)
    x = (x ^ (x >> 15)) * tl.cast(0x846CA68B, tl.uint32)
    return x ^ (x >> 16)


@triton.jit
def _round_randomly(value, noise):
    """Rounds fp32 to bf16, up with the probability of the part cut off. NaN and infinity stay."""
    bits = value.to(tl.uint32, bitcast=True)
    upper = tl.where(value == value, bits + noise, bits) >> 16
    return upper.to(tl.uint16).to(tl.bfloat16, bitcast=True)


@triton.jit
def _lerp(start, end, share):
    # from the nearer end, as torch: a share of 1 is `end` itself, whatever its size beside `start`
    near = share < 0.5
    return tl.where(near, start, end) + tl.where(near, share, share - 1) * (end - start)


@triton.jit
def _update(
    weights,
    momenta,
    variances,
    w,
    m,
    v,
    g,
    index,
    valid,
    share1,
    share2,
    epsilon,
    weight_decay,
    weight_factor,
    gradient_step,
    momentum_step,
    correction2,
    noise_key,
    MAXIMIZE: tl.constexpr,
):
    """`reference.nadam_dense_` of one tile in fp32.

    share1 and share2 are 1 - beta1 and 1 - beta2, correction2 is 1 / bias_correction2.
    """
    w, m, v = w.to(tl.float32), m.to(tl.float32), v.to(tl.float32)
    if MAXIMIZE:
        g = -g
    # no decay of an infinite weight is none
    g += tl.where(weight_decay == 0, 0.0, weight_decay * w)
    m = _lerp(m, g, share1)
    # an overflown variance stays infinite: infinity minus infinity would be NaN
    v = tl.where(v == float("inf"), v, _lerp(v, g * g, share2))
    # approximate root and quotient: their errors are a part in 10^7 of the step, and the weight's own is larger
    w = w * weight_factor - (gradient_step * g + momentum_step * m) / (tl.sqrt(v * correction2) + epsilon)
    tl.store(weights + index, w.to(weights.dtype.element_ty), mask=valid)
    if momenta.dtype.element_ty == tl.bfloat16:
        noise = _random_bits(index, noise_key)
        m = _round_randomly(m, noise >> 16)
        v = _round_randomly(v, noise & 0xFFFF)
    tl.store(momenta + index, m.to(momenta.dtype.element_ty), mask=valid)
    tl.store(variances + index, v.to(momenta.dtype.element_ty), mask=valid)


@triton.jit(do_not_specialize=["B", "D", "S", "left_b", "left_c", "right_b", "right_c", "noise_key"])
def nadam_factored_kernel(
    weights,
    momenta,
    variances,
    left,
    right,
    B,
    D,
    S,
    left_b,
    left_c,
    right_b,
    right_c,
    share1,
    share2,
    epsilon,
    weight_decay,
    weight_factor,
    gradient_step,
    momentum_step,
    correction2,
    noise_key,
    MAXIMIZE: tl.constexpr,
    ALIGNMENT: tl.constexpr,
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
    index = (c * D + d.to(tl.int64)[:, None]) * S + s[None, :]
    valid = (d < D)[:, None] & (s < S)[None, :]
    # first, so that they are on their way while the gradient is made
    w = tl.load(weights + index, mask=valid, other=0.0)
    m = tl.load(momenta + index, mask=valid, other=0.0)
    v = tl.load(variances + index, mask=valid, other=0.0)
    g = tl.zeros([BLOCK_D, BLOCK_S], tl.float32)
    left += c * left_c
    right += c * right_c * ALIGNMENT
    for b in tl.range(0, B):
        sample = tl.cast(b, tl.int64)
        from_left = tl.load(left + sample * left_b + d, mask=d < D, other=0.0).to(tl.float32)
        from_right = tl.load(right + sample * right_b * ALIGNMENT + s, mask=s < S, other=0.0).to(tl.float32)
        g += from_left[:, None] * from_right[None, :]
    _update(
        weights,
        momenta,
        variances,
        w,
        m,
        v,
        g,
        index,
        valid,
        share1,
        share2,
        epsilon,
        weight_decay,
        weight_factor,
        gradient_step,
        momentum_step,
        correction2,
        noise_key,
        MAXIMIZE,
    )


@triton.jit(do_not_specialize=["count", "noise_key"])
def nadam_dense_kernel(
    weights,
    momenta,
    variances,
    gradient,
    count,
    share1,
    share2,
    epsilon,
    weight_decay,
    weight_factor,
    gradient_step,
    momentum_step,
    correction2,
    noise_key,
    MAXIMIZE: tl.constexpr,
    ALIGNMENT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """All arrays flat, of `count` elements in units of ALIGNMENT."""
    count = tl.cast(count, tl.int64) * ALIGNMENT
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    valid = index < count
    w = tl.load(weights + index, mask=valid, other=0.0)
    m = tl.load(momenta + index, mask=valid, other=0.0)
    v = tl.load(variances + index, mask=valid, other=0.0)
    g = tl.load(gradient + index, mask=valid, other=0.0).to(tl.float32)
    _update(
        weights,
        momenta,
        variances,
        w,
        m,
        v,
        g,
        index,
        valid,
        share1,
        share2,
        epsilon,
        weight_decay,
        weight_factor,
        gradient_step,
        momentum_step,
        correction2,
        noise_key,
        MAXIMIZE,
    )
