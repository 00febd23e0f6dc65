"""Wheels: with a compiler, without one, and where the native kernels are demanded."""

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MISSING = [name for name in ("setuptools", "ninja", "pybind11") if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"building needs {MISSING}: pip install -e .[dev]")


@pytest.fixture
def sources(tmp_path):
    """The project as in a fresh checkout, without anything built."""
    folder = tmp_path / "sources"
    ignore = shutil.ignore_patterns("_native*.so", "_build_failure.txt", "__pycache__")
    for name in ("csrc", "spf_kernels"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def build_wheel(sources, **environment):
    """`pip wheel` from outside the project; the build requirements come from this environment, not the network."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", str(sources)]
    return subprocess.run(
        [*command, "--wheel-dir", str(sources.parent)],
        cwd=sources.parent,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def unpack(folder):
    (wheel,) = folder.glob("*.whl")
    installed = folder / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
        return installed, {Path(name).name for name in archive.namelist() if name.startswith("spf_kernels/")}


# an editable install of the project would find what the wheel lacks
NOT_EDITABLE = "import sys; sys.meta_path = [f for f in sys.meta_path if 'editable' not in str(f).lower()]\n"


def run_installed(installed, code):
    return subprocess.run(
        [sys.executable, "-c", NOT_EDITABLE + code],
        cwd=installed.parent,
        env={**os.environ, "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


ENCODE = """
import torch, spf_kernels
print(spf_kernels.__file__)
layer = spf_kernels.SPFFlatten(2, 4, 3)
maps = torch.ones(5, 2, 4, 4)
for _ in range(2):
    print(tuple(layer(maps).shape))
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_wheel_holds_the_native_kernels(sources):
    result = build_wheel(sources, SPF_REQUIRE_NATIVE="1")
    assert result.returncode == 0, result.stdout + result.stderr
    installed, names = unpack(sources.parent)
    assert any(name.startswith("_native") and name.endswith(".so") for name in names)
    assert "py.typed" in names
    assert "_build_failure.txt" not in names
    answer = run_installed(installed, ENCODE + "print(spf_kernels.selection.select(maps.device, maps.dtype).NAME)")
    assert answer.returncode == 0, answer.stderr
    assert str(installed) in answer.stdout
    assert answer.stdout.splitlines()[-1] == "native"
    assert answer.stderr == ""


def test_without_a_compiler_the_reference_runs_and_says_so(sources):
    result = build_wheel(sources, CXX="/no/such/compiler")
    assert result.returncode == 0, result.stdout + result.stderr
    installed, names = unpack(sources.parent)
    assert "_build_failure.txt" in names
    assert not any(name.endswith(".so") for name in names)
    answer = run_installed(installed, ENCODE)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.count("(5, 6)") == 2
    assert answer.stderr.count("UserWarning") == 1
    assert "/no/such/compiler" in answer.stderr
    assert "reinstall" in answer.stderr


def test_demanded_native_kernels_are_an_error_without_a_compiler(sources):
    result = build_wheel(sources, CXX="/no/such/compiler", SPF_REQUIRE_NATIVE="1")
    assert result.returncode != 0
    assert "SPF_REQUIRE_NATIVE=1" in result.stdout + result.stderr
    assert "/no/such/compiler" in result.stdout + result.stderr
