"""Builds csrc into spf_kernels._native: one object per instruction set, compiled by ninja, no torch needed.

SPF_REQUIRE_NATIVE=1 makes a failed build an error (otherwise the reference backend is used and says so),
SPF_SANITIZE=1 builds with AddressSanitizer and UndefinedBehaviorSanitizer, CXX names the compiler.
"""

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
X86 = platform.machine().lower() in ("x86_64", "amd64")
# the baseline links first; runtime.cpp checks for exactly these features
ISA_FLAGS = {"baseline": ""}
if X86:
    ISA_FLAGS["avx2"] = "-mavx2 -mfma"
    ISA_FLAGS["avx512"] = ISA_FLAGS["avx2"] + " -mavx512f -mavx512bw -mavx512vl -mavx512dq"
    ISA_FLAGS["avx512bf16"] = ISA_FLAGS["avx512"] + " -mavx512bf16"
    ISA_FLAGS["amx"] = ISA_FLAGS["avx512bf16"] + " -mamx-tile -mamx-bf16"
COMMON_SOURCES = ("bindings", "runtime", "allocator")
FLAGS = "-std=c++17 -O3 -fPIC -fvisibility=hidden -ffp-contract=fast -fno-math-errno -Wall -Wno-psabi"
SANITIZE = "-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined"


def find_compiler() -> str:
    """The C++ compiler command: $CXX, else the first of g++, clang++, c++ on the path."""
    if os.environ.get("CXX"):
        return os.environ["CXX"]
    for name in ("g++", "clang++", "c++"):
        if shutil.which(name):
            return name
    raise RuntimeError("no C++ compiler found (looked for $CXX, g++, clang++, c++)")


def openmp_flag(compiler: str) -> str:
    """-fopenmp where the compiler can compile and link with it, else nothing (one thread)."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "probe.cpp"
        source.write_text("#include <omp.h>\nint main() { return omp_get_max_threads() > 0 ? 0 : 1; }\n")
        command = [*shlex.split(compiler), "-fopenmp", str(source), "-o", str(Path(folder) / "probe")]
        found = subprocess.run(command, capture_output=True, check=False).returncode == 0
    return "-fopenmp" if found else ""


def compiler_version(compiler: str) -> str:
    """The first line of `compiler --version`."""
    result = subprocess.run([*shlex.split(compiler), "--version"], capture_output=True, text=True, check=True)
    return result.stdout.splitlines()[0].replace('"', "")


def write_ninja(path: Path, output: Path, version: str) -> None:
    """Writes the build file: objects of the common sources, one kernels object per instruction set, the link."""
    import pybind11
    from ninja import ninja_syntax

    compiler = find_compiler()
    sanitize = SANITIZE if os.environ.get("SPF_SANITIZE") == "1" else ""
    includes = " ".join(shlex.quote(f"-I{path}") for path in (sysconfig.get_path("include"), pybind11.get_include()))
    # shell quoting: ninja hands the command line to sh
    defines = f"-DSPF_COMPILER='\"{compiler_version(compiler)}\"' -DSPF_VERSION='\"{version}\"'"
    defines += " -DSPF_X86" if X86 else ""
    openmp = openmp_flag(compiler)
    link = "-shared" if sys.platform != "darwin" else "-bundle -undefined dynamic_lookup"
    # (object, source, flags), in the order of linking
    units = [
        (f"{name}.o", f"{name}.cpp", f"{openmp} {defines} {includes if name == 'bindings' else ''}")
        for name in COMMON_SOURCES
    ]
    units += [(f"kernels_{isa}.o", "kernels.cpp", f"-DSPF_ISA={isa} {flags}") for isa, flags in ISA_FLAGS.items()]
    with path.open("w") as file:
        # its type stub says str; it takes a file
        writer = ninja_syntax.Writer(file, width=120)  # type: ignore[arg-type]
        writer.rule("compile", f"{compiler} -MMD -MF $out.d {FLAGS} $flags {sanitize} -c $in -o $out", depfile="$out.d")
        writer.rule("link", f"{compiler} {link} {openmp} {sanitize} $in -o $out")
        for unit, source, flags in units:
            writer.build([unit], "compile", [str(ROOT / "csrc" / source)], variables={"flags": flags})
        writer.build([str(output)], "link", [unit for unit, _, _ in units])


class NinjaBuild(build_ext):
    """Compiles by ninja; without a compiler the install goes on and the failure is recorded in the package."""

    def build_extension(self, ext: Extension) -> None:
        output = Path(self.get_ext_fullpath(ext.name)).resolve()
        # an editable install reads the note where the sources are
        package = ROOT / "spf_kernels" if self.editable_mode else output.parent
        failure = package / "_build_failure.txt"
        output.parent.mkdir(parents=True, exist_ok=True)
        failure.unlink(missing_ok=True)
        try:
            self.run_ninja(output)
        except (RuntimeError, OSError, subprocess.CalledProcessError, ImportError) as error:
            message = f"{error}\n{getattr(error, 'output', None) or ''}"
            if os.environ.get("SPF_REQUIRE_NATIVE") == "1":
                raise RuntimeError(f"SPF_REQUIRE_NATIVE=1 and csrc did not build: {message}") from error
            # kernels of an earlier build must not run in its stead
            output.unlink(missing_ok=True)
            for stale in package.glob("_native*.so"):
                stale.unlink()
            failure.write_text(message)
            self.warn(f"csrc did not build, the reference backend will be used: {message}")

    def run_ninja(self, output: Path) -> None:
        import ninja

        folder = Path(self.build_temp).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        write_ninja(folder / "build.ninja", output, self.distribution.get_version())
        command = [str(Path(ninja.BIN_DIR) / "ninja"), "-C", str(folder)]
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if result.returncode:
            raise subprocess.CalledProcessError(result.returncode, command, output=result.stdout)


# optional: setuptools then copies the extension only where it was built
native = Extension("spf_kernels._native", sources=[], optional=True)
setup(ext_modules=[native], cmdclass={"build_ext": NinjaBuild})
