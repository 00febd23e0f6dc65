import os
import subprocess
import sys

import pytest
import torch

import spf_kernels
from spf_kernels import selection
from spf_kernels.backends import native

from .helpers import ISAS


@pytest.fixture(autouse=True)
def restored_state(monkeypatch):
    """Backend, instruction set, counters and threads are as at the start, whatever a test does."""
    monkeypatch.delenv("SPF_BACKEND", raising=False)
    monkeypatch.setattr(selection, "_requested", None)
    threads = torch.get_num_threads()
    spf_kernels.reset_counters()
    isa = native.extension().selected_isa() if ISAS else None
    yield
    torch.set_num_threads(threads)
    if isa:
        native.extension().select_isa(isa)


@pytest.fixture
def poisoned_outputs(monkeypatch):
    """Every output the native backend allocates is full of NaN before its kernel runs."""
    original = native._empty
    monkeypatch.setattr(native, "_empty", lambda shape, dtype: original(shape, dtype).fill_(float("nan")))


@pytest.fixture
def fresh_python():
    """Runs code in a new interpreter with extra environment variables; returns what it did."""

    def run(code, timeout=120, **environment):
        clean = {name: value for name, value in os.environ.items() if not name.startswith("SPF_")}
        return subprocess.run(
            [sys.executable, "-c", code],
            env={**clean, **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run
