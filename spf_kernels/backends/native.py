"""The kernels of csrc: CPU, float32 and bfloat16. Same functions and arguments as `reference`."""

import importlib
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spf_kernels.backends.layouts import contiguous_in_place, contiguous_layer, contiguous_pixels
from spf_kernels.backends.reference import ACTIVATIONS

NAME = "native"
_DTYPES = {torch.float32: 0, torch.bfloat16: 1}
# smaller outputs come from torch's allocator: the C library recycles those itself
_RECYCLED_BYTES = 2 << 20


_forked = False


def _mark_forked() -> None:
    global _forked
    _forked = True


# libgomp's threads, which torch may have started already, do not survive a fork: a child that waits for them hangs
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_mark_forked)


class NativeUnavailableError(RuntimeError):
    """The extension could not be loaded; the message says why and what to do."""


@cache
def _load() -> Any:
    """The extension module, or the exception that explains its absence; either is kept."""
    try:
        _native = importlib.import_module("spf_kernels._native")
    except ImportError as error:
        note = Path(__file__).resolve().parent.parent / "_build_failure.txt"
        why = f"csrc did not build: {note.read_text().strip()}" if note.exists() else str(error)
        return NativeUnavailableError(
            f"the native kernels are not available ({why}). Install g++ 12 or newer and reinstall "
            "spf-kernels; SPF_REQUIRE_NATIVE=1 makes a failed build an error."
        )
    isa = os.environ.get("SPF_ISA")
    if isa:
        _native.select_isa(isa)
    limit = os.environ.get("SPF_CACHE_LIMIT_MB")
    if limit:
        if not limit.isdecimal():
            raise ValueError(f"SPF_CACHE_LIMIT_MB must be a number of MiB, got {limit!r}")
        _native.set_cache_limit(int(limit) << 20)
    return _native


def extension() -> Any:
    """The extension module.

    Raises:
        NativeUnavailableError: It is missing or could not be loaded.
        ValueError: SPF_ISA names an instruction set this processor or build lacks.
    """
    module = _load()
    if isinstance(module, NativeUnavailableError):
        raise module
    return module


def unavailable() -> str | None:
    """Why the extension cannot be used at all; None where it can."""
    module = _load()
    return str(module) if isinstance(module, NativeUnavailableError) else None


def loaded() -> Any | None:
    """The extension where something has loaded it already, without loading it."""
    return sys.modules.get("spf_kernels._native")


def unsupported(device: torch.device, *dtypes: torch.dtype) -> str | None:
    """Why this backend cannot take these arguments; None where it can."""
    if device.type != "cpu":
        return f"device must be cpu, got {device}"
    for dtype in dtypes:
        if dtype not in _DTYPES:
            return f"dtypes must be float32 or bfloat16, got {dtype}"
    return None


def _empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """An uninitialised CPU tensor; large ones on a recycled buffer, which nothing else references."""
    elements = 1
    for length in shape:
        elements *= length
    if elements * dtype.itemsize < _RECYCLED_BYTES:
        return torch.empty(shape, dtype=dtype)
    storage = torch.from_numpy(extension().empty(elements, _DTYPES[dtype])).untyped_storage()
    # not a view: a view that a Function returns must not be changed in place
    tensor = torch.empty(0, dtype=dtype)
    tensor.set_(storage, 0, shape)  # type: ignore[call-overload]
    # the attribute lives on a module class that mypy cannot see
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    if fill and torch.are_deterministic_algorithms_enabled():
        tensor.fill_(float("nan"))
    return tensor


def advise_huge_pages(tensor: Tensor) -> None:
    """Asks for huge pages behind a large CPU tensor that has not been written yet: reading it is a tenth faster."""
    large = tensor.device.type == "cpu" and tensor.numel() * tensor.dtype.itemsize >= _RECYCLED_BYTES
    if large and not unavailable() and not isinstance(tensor, torch._subclasses.FakeTensor):
        extension().advise_huge_pages(tensor.data_ptr(), tensor.numel() * tensor.dtype.itemsize)


def _threads() -> int:
    return 1 if _forked else torch.get_num_threads()


def _maps(maps: Tensor) -> tuple[Tensor, tuple[int, int, int, int]]:
    maps = contiguous_pixels(maps)
    return maps, (maps.data_ptr(), maps.stride(0), maps.stride(1), _DTYPES[maps.dtype])


def _codes(codes: Tensor) -> tuple[int, int, int, int, int]:
    return codes.data_ptr(), codes.stride(0), codes.stride(1), codes.stride(2), _DTYPES[codes.dtype]


def _layer(weight: Tensor, bias: Tensor | None, activation: str) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """The tensors to keep alive during the call, and the layer's description."""
    weight, bias = contiguous_layer(weight, bias)
    kept = (weight,) if bias is None else (weight, bias)
    address = 0 if bias is None else bias.data_ptr()
    return kept, (weight.data_ptr(), address, _DTYPES[weight.dtype], ACTIVATIONS.index(activation))


def encode(maps: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    """See `reference.encode`."""
    native = extension()
    (B, C, S), D = maps.shape, weight.shape[1]
    maps, maps_spec = _maps(maps)
    kept, layer = _layer(weight, bias, activation)
    out = _empty((B, C, D), maps.dtype)
    native.encode((B, C, D, S), maps_spec, layer, out.data_ptr(), _threads())
    del kept
    return out


def decode(codes: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    """See `reference.decode`."""
    native = extension()
    (B, C, D), S = codes.shape, weight.shape[2]
    kept, layer = _layer(weight, bias, activation)
    out = _empty((B, C, S), codes.dtype)
    native.decode((B, C, D, S), _codes(codes), layer, out.data_ptr(), _threads())
    del kept
    return out


def outer(left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
    """See `reference.outer`."""
    native = extension()
    (B, C, D), S = left.shape, right.shape[2]
    right, right_spec = _maps(right)
    out = _empty((C, D, S), dtype)
    native.outer((B, C, D, S), _codes(left), right_spec, out.data_ptr(), _DTYPES[dtype], _threads())
    return out


def reconstruct(
    codes: Tensor,
    maps: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str,
    with_error: bool,
    with_residual: bool,
    with_codes_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See `reference.reconstruct`."""
    native = extension()
    (B, C, D), S = codes.shape, weight.shape[2]
    maps, maps_spec = _maps(maps)
    kept, layer = _layer(weight, bias, activation)
    loss = torch.empty(B, dtype=torch.float32)
    error = _empty((B, C, S) if with_error else (0,), maps.dtype)
    residual = _empty((B, C, S) if with_residual else (0,), maps.dtype)
    gradient = _empty((B, C, D) if with_codes_gradient else (0,), torch.float32)
    native.reconstruct(
        (B, C, D, S),
        _codes(codes),
        maps_spec,
        layer,
        loss.data_ptr(),
        error.data_ptr() if with_error else 0,
        residual.data_ptr() if with_residual else 0,
        gradient.data_ptr() if with_codes_gradient else 0,
        _threads(),
    )
    del kept
    return loss, error, residual, gradient


def _state(arrays: tuple[Tensor, ...]) -> tuple[int, ...]:
    """Addresses and dtypes of weight, momentum and variance."""
    weight, momentum, variance = arrays
    addresses = (weight.data_ptr(), momentum.data_ptr(), variance.data_ptr())
    return *addresses, _DTYPES[weight.dtype], _DTYPES[momentum.dtype]


def nadam_factored_(
    weight: Tensor, momentum: Tensor, variance: Tensor, left: Tensor, right: Tensor, *step: float
) -> None:
    """See `reference.nadam_factored_`."""
    native = extension()
    (B, C, D), S = left.shape, right.shape[2]
    right, right_spec = _maps(right)
    *numbers, maximize, noise_key = step
    with contiguous_in_place(weight, momentum, variance) as arrays:
        native.nadam_factored(
            (B, C, D, S), _state(arrays), _codes(left), right_spec, numbers, maximize, noise_key, _threads()
        )


def nadam_dense_(weight: Tensor, momentum: Tensor, variance: Tensor, gradient: Tensor, *step: float) -> None:
    """See `reference.nadam_dense_`."""
    native = extension()
    gradient = gradient.contiguous()
    *numbers, maximize, noise_key = step
    with contiguous_in_place(weight, momentum, variance) as arrays:
        native.nadam_dense(
            weight.numel(),
            _state(arrays),
            gradient.data_ptr(),
            _DTYPES[gradient.dtype],
            numbers,
            maximize,
            noise_key,
            _threads(),
        )
