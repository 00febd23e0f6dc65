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
