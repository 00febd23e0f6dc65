"""An object of one instruction set exports its table alone: no copy of an inline function can win the link."""

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# sanitizers add symbols of their own
BUILT = [path for path in sorted(ROOT.glob("build/**/kernels_*.o")) if "sanitized" not in path.parts]
EXTENSIONS = sorted((ROOT / "spf_kernels").glob("_native*.so"))
# as in setup.py, but for -O1: more functions are left that could have been inlined
FLAGS = "-std=c++17 -O1 -fPIC -fvisibility=hidden -ffp-contract=fast -Wno-psabi"
ISA_FLAGS = {
    "baseline": "",
    "avx512bf16": "-mavx2 -mfma -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512bf16",
}
X86 = platform.machine().lower() in ("x86_64", "amd64")

pytestmark = [
    pytest.mark.skipif(shutil.which("nm") is None, reason="nm is not installed"),
    # the letters are those of ELF
    pytest.mark.skipif(platform.system() != "Linux", reason="the format of objects is another one here"),
]


def _symbols(path, *options):
    """(letter, name) of the symbols that nm lists."""
    listing = subprocess.run(["nm", *options, str(path)], capture_output=True, text=True, check=True).stdout
    return [tuple(line.split()[-2:]) for line in listing.splitlines() if len(line.split()) >= 2]


def _assert_exports_only_its_table(path, isa):
    defined = [(letter, name) for letter, name in _symbols(path, "--defined-only") if letter != "a"]
    assert defined
    exported = {name for letter, name in defined if letter.isupper()}
    assert exported == {f"spf_kernels_{isa}"}
    # v, w, V, W: weak; u: unique over the whole process
    assert not [name for letter, name in defined if letter.lower() in "vwu"]


@pytest.mark.skipif(not BUILT, reason="no objects in build/")
@pytest.mark.parametrize("path", BUILT, ids=lambda path: path.name)
def test_built_objects_export_one_symbol(path):
    _assert_exports_only_its_table(path, path.stem.removeprefix("kernels_"))


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")
@pytest.mark.parametrize("isa", ISA_FLAGS)
def test_a_compiled_object_exports_one_symbol(isa, tmp_path):
    if ISA_FLAGS[isa] and not X86:
        pytest.skip(f"{isa} is an instruction set of x86")
    output = tmp_path / "kernels.o"
    options = f"{FLAGS} {ISA_FLAGS[isa]} -DSPF_ISA={isa}".split()
    subprocess.run(["g++", *options, "-c", str(ROOT / "csrc" / "kernels.cpp"), "-o", str(output)], check=True)
    _assert_exports_only_its_table(output, isa)


@pytest.mark.skipif(not EXTENSIONS, reason="the extension is not built next to spf_kernels")
@pytest.mark.parametrize("path", EXTENSIONS, ids=lambda path: path.name)
def test_the_extension_exports_its_initialiser_and_nothing_of_ours(path):
    exported = [name for _, name in _symbols(path, "-D", "--defined-only")]
    assert "PyInit__native" in exported
    assert not [name for name in exported if "spf" in name]
