"""Which backend runs: by device and dtype, or as `use_backend` or SPF_BACKEND says."""

import os
import warnings
from types import ModuleType, TracebackType

import torch

from spf_kernels.backends import native, reference

AUTOMATIC = "auto"
BACKENDS: dict[str, ModuleType] = {"native": native, "reference": reference}

_requested: str | None = None
_warned = False


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
        name: "native" (CPU kernels), "reference" (eager PyTorch), or "auto" (by device and dtype). A named backend
            never falls back to another: what it cannot run raises.

    Raises:
        ValueError: An unknown name.
        spf_kernels.NativeUnavailableError: "native", and the extension is missing.
    """

    def __init__(self, name: str) -> None:
        global _requested
        if _check_name(name) == "native":
            native.extension()
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
        backend = BACKENDS[name]
        why = backend.unsupported(device, *dtypes)
        if why:
            raise TypeError(f"backend {name!r} was asked for by name, but its {why}")
        return backend
    if native.unsupported(device, *dtypes):
        return reference
    why = native.unavailable()
    if why:
        _warn_once(why)
        return reference
    return native
