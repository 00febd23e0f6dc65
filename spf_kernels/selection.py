"""Which backend runs: by device and dtype, or as `use_backend` or SPF_BACKEND says."""

import importlib
import os
import warnings
from functools import cache
from types import ModuleType, TracebackType

import torch

from spf_kernels.backends import native, reference

AUTOMATIC = "auto"
BACKENDS = ("native", "triton", "reference")

_requested: str | None = None
_warned = False


class TritonUnavailableError(RuntimeError):
    """Triton could not be imported; the message says why."""


@cache
def _import_triton() -> ModuleType | TritonUnavailableError:
    try:
        return importlib.import_module("spf_kernels.backends.triton")
    except ImportError as error:
        return TritonUnavailableError(f"the Triton kernels are not available ({error}); `pip install triton` on Linux")


def triton_unavailable() -> str | None:
    """Why the Triton kernels cannot be used at all; None where they can. Imports Triton."""
    module = _import_triton()
    return str(module) if isinstance(module, TritonUnavailableError) else None


def backend_named(name: str) -> ModuleType:
    """The backend of this name, imported.

    Raises:
        spf_kernels.TritonUnavailableError: "triton", and it cannot be imported.
    """
    if name != "triton":
        return native if name == "native" else reference
    module = _import_triton()
    if isinstance(module, TritonUnavailableError):
        raise module
    return module


def _check_name(name: str) -> str:
    if name != AUTOMATIC and name not in BACKENDS:
        raise ValueError(f"backend must be one of {[AUTOMATIC, *BACKENDS]}, got {name!r}")
    return name


def requested_backend() -> str:
    """The backend asked for: "auto", or the name given to `use_backend` or in SPF_BACKEND."""
    if _requested is not None:
        return _requested
    return _check_name(os.environ.get("SPF_BACKEND") or AUTOMATIC)


class use_backend:  # noqa: N801 (reads as a function, like torch.no_grad)
    """Chooses the backend of the whole process, from now on or for a `with` block.

    Args:
        name: "native" (CPU kernels), "triton" (GPU kernels), "reference" (eager PyTorch), or "auto" (by device and
            dtype). A named backend never falls back to another: what it cannot run raises.

    Raises:
        ValueError: An unknown name.
        spf_kernels.NativeUnavailableError: "native", and the extension is missing.
        spf_kernels.TritonUnavailableError: "triton", and Triton cannot be imported.
    """

    def __init__(self, name: str) -> None:
        global _requested
        if _check_name(name) == "native":
            native.extension()
        elif name == "triton":
            backend_named(name)
        self._previous = _requested
        _requested = name

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _requested
        _requested = self._previous


def _warn_once(why: str) -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(f"spf_kernels runs on its slow reference backend: {why}", UserWarning, stacklevel=3)


def select(device: torch.device, *dtypes: torch.dtype) -> ModuleType:
    """The backend for tensors of this device and these dtypes.

    Raises:
        TypeError: The backend asked for by name does not take them.
    """
    name = requested_backend()
    if name != AUTOMATIC:
        backend = backend_named(name)
        why = backend.unsupported(device, *dtypes)
        if why:
            raise TypeError(f"backend {name!r} was asked for by name, but its {why}")
        return backend
    if device.type in ("cuda", "xpu"):
        return _select_gpu(device, dtypes)
    if native.unsupported(device, *dtypes):
        return reference
    why = native.unavailable()
    if why:
        _warn_once(why)
        return reference
    return native


def _select_gpu(device: torch.device, dtypes: tuple[torch.dtype, ...]) -> ModuleType:
    # float64 has no kernels anywhere: no news
    if torch.float64 in dtypes:
        return reference
    why = triton_unavailable() or backend_named("triton").unsupported(device, *dtypes)
    if why:
        _warn_once(why)
        return reference
    return backend_named("triton")
