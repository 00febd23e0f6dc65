"""The cases of the benchmarks, `--quick`, and what the JSON says about the machine."""

import gc
import os
import platform
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import spf_kernels
from bench import cases
from bench.machine import cpu_model
from spf_kernels.backends import native

_FIXTURES = {
    "case": cases.all_cases,
    "paper_size_case": cases.paper_size_cases,
    "training_case": cases.training_cases,
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="tiny sizes: shows that the benchmarks run, measures nothing")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    quick = bool(metafunc.config.getoption("--quick"))
    for name, choose in _FIXTURES.items():
        if name in metafunc.fixturenames:
            chosen = choose(quick)
            metafunc.parametrize(name, chosen, ids=[case.label for case in chosen])


@pytest.fixture
def quick(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--quick"))


@pytest.fixture(autouse=True)
def _start_afresh() -> Iterator[None]:
    """No compiled graph and no recycled buffer of the case before: torch.compile then sees one size, its best form."""
    torch._dynamo.reset()
    yield
    # modules and optimizers refer to themselves
    gc.collect()
    spf_kernels.empty_cache()


# optional: without pytest-benchmark the tests still say which fixture is missing
@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Adds what decides the numbers; the load is that at the end."""
    built = native.unavailable() is None
    machine_info["spf"] = {
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "instructions": native.extension().selected_isa() if built else f"none: {native.unavailable()}",
        "compiler": native.extension().compiler if built else "none",
        "torch": torch.__version__,
        "torch_instructions": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "spf_kernels": spf_kernels.__version__,
        "load_average": round(os.getloadavg()[0], 2),
        "quick": bool(config.getoption("--quick")),
    }
