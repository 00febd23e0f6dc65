"""What the kernels share: activations, the product of two tiles, the programs' order.

All kernels take their sizes in a one-dimensional grid and every length along pixels in units of ALIGNMENT elements:
so the compiler knows that rows start on whole vectors, whatever the map size, and loads 16 bytes at a time.
"""

import triton
import triton.language as tl


@triton.jit
def _tanh(x):
    # exp of the whole range, and Cephes' polynomial where 1 - exp would cancel; libdevice does not run interpreted
    e = tl.exp(-2 * tl.abs(x))
    large = (1 - e) / (1 + e)
    z = x * x
    p = -5.70498872745e-3 * z + 2.06390887954e-2
    p = p * z - 5.37397155531e-2
    p = p * z + 1.33314422036e-1
    p = p * z - 3.33332819422e-1
    small = x + x * z * p
    return tl.where(tl.abs(x) < 0.625, small, tl.where(x < 0, -large, large))


@triton.jit
def activate(x, ACTIVATION: tl.constexpr):
    """The activation of an fp32 tile. NaN stays NaN."""
    if ACTIVATION == "relu":
        x = tl.where(x < 0, 0.0, x)
    elif ACTIVATION == "tanh":
        x = _tanh(x)
    elif ACTIVATION == "sigmoid":
        x = 1 / (1 + tl.exp(-x))
    return x


@triton.jit
def slope(y, ACTIVATION: tl.constexpr):
    """The activation's derivative, from its output."""
    if ACTIVATION == "relu":
        result = tl.where(y > 0, 1.0, 0.0)
    elif ACTIVATION == "tanh":
        result = 1 - y * y
    elif ACTIVATION == "sigmoid":
        result = y * (1 - y)
    else:
        result = tl.full(y.shape, 1.0, tl.float32)
    return result


@triton.jit
def multiply_add(a, b, total, PRECISION: tl.constexpr):
    """Returns total + a b in fp32; operands of two dtypes are multiplied in fp32. PRECISION is of fp32 products."""
    if a.dtype != b.dtype:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    if a.dtype == tl.float32:
        total = tl.dot(a, b, total, input_precision=PRECISION)
    else:
        total = tl.dot(a, b, total)
    return total


@triton.jit
def multiply_add_parts(a, b, total):
    """Returns total + a b for fp32 a and half-precision b: a in parts of that precision, nothing rounded away.

    Three bfloat16 hold every bit of an fp32, two float16 all but the last two (and none below 2^-24).
    """
    PARTS: tl.constexpr = 3 if b.dtype == tl.bfloat16 else 2
    for _ in tl.static_range(PARTS):
        part = a.to(b.dtype)
        total = tl.dot(part, b, total)
        a -= part.to(tl.float32)
        # infinity less itself leaves nothing
        a = tl.where(a == a, a, 0.0)
    return total


@triton.jit
def multiply_long_code(
    samples, rows, s, valid_samples, valid_pixels, D, S, total, PRECISION: tl.constexpr, BLOCK_D: tl.constexpr
):
    """Returns total + codes times weight for codes of more than BLOCK_D elements, one block of them after the other.

    samples points at the codes (BLOCK_B, 1), rows at the first BLOCK_D rows of the weight (BLOCK_D, 1), s are pixels.
    """
    d = tl.arange(0, BLOCK_D)
    for k in tl.range(0, D, BLOCK_D):
        valid = k + d < D
        z = tl.load(samples + (k + d)[None, :], mask=valid_samples[:, None] & valid[None, :], other=0.0)
        w = tl.load(
            rows + tl.cast(k, tl.int64) * S + s[None, :],
            mask=valid[:, None] & valid_pixels[None, :],
            other=0.0,
            eviction_policy="evict_first",
        )
        total = multiply_add(z, w, total, PRECISION)
    return total
