"""Mends Triton's interpreter where it is silently wrong about bfloat16, so that bfloat16 can be tested without a GPU.

The interpreter keeps bfloat16 as 16-bit integers. Up to Triton 3.9 at least,

* `tl.dot` multiplies those integers,
* a cast from float32 truncates, where every GPU rounds to nearest even; a cast to float32 is wrong for denormals.

`mend` replaces these two operations for bfloat16 and nothing else: all others, and all other dtypes, are the
interpreter's own. Arithmetic on bfloat16 tiles stays wrong there; the kernels do none, they work in float32.
`test_interpreter` tests the mend, and that it is still needed.
"""

from typing import Any

import numpy as np
import triton.language as tl
from numpy.typing import NDArray
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

FAULTY = {name: getattr(InterpreterBuilder, name) for name in ("create_dot", "cast_impl")}


def mend() -> None:
    """Replaces the faulty operations, in this process."""
    InterpreterBuilder.create_dot = _create_dot
    InterpreterBuilder.cast_impl = _cast


def widened(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """bfloat16 bits to float32, exactly."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def rounded(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """float32 to bfloat16 bits, to nearest, halves to even; NaN stays NaN."""
    bits = values.view(np.uint32)
    nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.where(np.isnan(values), 0x7FC0, nearest).astype(np.uint16)


def _create_dot(
    builder: Any, a: TensorHandle, b: TensorHandle, d: TensorHandle, input_precision: Any, imprecise: Any
) -> Any:
    a, b = (TensorHandle(widened(x.data), tl.float32) if x.dtype == tl.bfloat16 else x for x in (a, b))
    return FAULTY["create_dot"](builder, a, b, d, input_precision, imprecise)


def _cast(builder: Any, source: TensorHandle, target: Any) -> Any:
    before, after = source.dtype.scalar, target.scalar
    if before == tl.bfloat16 and after == tl.float32:
        return TensorHandle(widened(source.data), after)
    if before == tl.float32 and after == tl.bfloat16:
        return TensorHandle(rounded(source.data), after)
    return FAULTY["cast_impl"](builder, source, target)
