"""Layouts that the kernels do not read: copied once, which is counted."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from spf_kernels.counters import count


def contiguous(name: str, parameter: Tensor) -> Tensor:
    """A parameter, or a contiguous copy of it, counted under its name."""
    if parameter.is_contiguous():
        return parameter
    count(f"{name} copied: not contiguous")
    return parameter.contiguous()


def contiguous_layer(weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Both parameters of a layer, contiguous."""
    return contiguous("weight", weight), None if bias is None else contiguous("bias", bias)


def contiguous_pixels(maps: Tensor) -> Tensor:
    """Maps (B, C, S), or a copy of them, whose pixels are contiguous."""
    if maps.stride(2) == 1 or maps.shape[2] <= 1:
        return maps
    # maps come from `functional` in order: mostly an upstream gradient
    count(f"gradient copied: pixel stride {maps.stride(2)}")
    return maps.contiguous()


@contextmanager
def contiguous_in_place(weight: Tensor, *state: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """A weight and its optimizer's state as the kernels change them: themselves, or copies that go back at the end."""
    tensors = (weight, *state)
    arrays = (contiguous("weight", weight), *(tensor.contiguous() for tensor in state))
    yield arrays
    for tensor, array in zip(tensors, arrays, strict=True):
        if array is not tensor:
            tensor.copy_(array)
