import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import spf_kernels
from spf_kernels import ops, selection
from spf_kernels.backends import native

from .helpers import BACKEND, DEVICE, INTERPRETED, ISAS, NAME

# What any backend on any device is tested by. The other files are about csrc, the choice of a backend or the arguments
# before any backend sees them, or their tensors are on the CPU and nothing of what they test is in the kernels.
_ANY_BACKEND = [
    *(
        "test_backends_nan.py",
        "test_backends_numbers.py",
        "test_determinism.py",
        "test_gradients.py",
        "test_layouts.py",
    ),
    *("test_linears.py", "test_modules.py", "test_nadam.py", "test_opcheck.py", "test_transforms.py"),
]
_INTERPRETED_ONLY = ["test_interpreter.py", "test_offsets.py"]
_TRITON_ONLY = ["test_triton.py", *_INTERPRETED_ONLY]
# slow under the interpreter, and the same there as for any other backend
_GPU = ["test_autograd.py", "test_compile.py", "test_gpu.py"]


def _collected(file):
    if NAME == "native":
        return file not in _TRITON_ONLY
    return file in [*_ANY_BACKEND, "test_triton.py", *(_INTERPRETED_ONLY if INTERPRETED else _GPU)]


collect_ignore = sorted(path.name for path in Path(__file__).parent.glob("test_*.py") if not _collected(path.name))

if INTERPRETED:
    from . import interpreter

    interpreter.mend()


def pytest_configure(config):
    # NaN, infinity and overflow are computed on purpose, by numpy
    config.addinivalue_line("filterwarnings", "ignore::RuntimeWarning:triton.runtime.interpreter")


def pytest_report_collectionfinish():
    how = " under Triton's interpreter" if INTERPRETED else ""
    return f"spf_kernels tests: backend {NAME} on {DEVICE}{how}; not collected: {', '.join(collect_ignore)}"


@pytest.fixture(autouse=True)
def restored_state(monkeypatch):
    """Backend, instruction set, counters and threads are as at the start, whatever a test does."""
    monkeypatch.delenv("SPF_BACKEND", raising=False)
    monkeypatch.setattr(selection, "_requested", None)
    if INTERPRETED:
        monkeypatch.setattr(ops, "select", _select_interpreted)
    threads = torch.get_num_threads()
    spf_kernels.reset_counters()
    isa = native.extension().selected_isa() if ISAS else None
    yield
    torch.set_num_threads(threads)
    if isa:
        native.extension().select_isa(isa)


def _select_interpreted(device, *dtypes):
    """What `select` chooses, but on the CPU the Triton kernels where it is free to choose and they can."""
    if selection.requested_backend() == selection.AUTOMATIC and not BACKEND.unsupported(device, *dtypes):
        return BACKEND
    return selection.select(device, *dtypes)


@pytest.fixture(params=ISAS if NAME == "native" else [DEVICE.type])
def isa(request):
    """csrc's instruction sets one by one; a GPU has one."""
    if NAME == "native":
        native.extension().select_isa(request.param)


@pytest.fixture
def poisoned_outputs(monkeypatch):
    """Every output and workspace the backend allocates is full of NaN before its kernel runs."""
    original = BACKEND._empty
    monkeypatch.setattr(BACKEND, "_empty", lambda *arguments: original(*arguments).fill_(float("nan")))


@pytest.fixture
def fresh_python():
    """Runs code in a new interpreter with extra environment variables; returns what it did."""

    def run(code, timeout=120, **environment):
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("SPF_", "TRITON_"))}
        return subprocess.run(
            [sys.executable, "-c", code],
            env={**clean, **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run
