"""`python -m bench`: runs all benchmarks and writes the report."""

import argparse
import subprocess
import sys
from pathlib import Path

from bench.report import RESULTS, write_report
from bench.results import load

_ROOT = Path(__file__).resolve().parent.parent
_SCRATCH = _ROOT / ".benchmarks"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Runs all benchmarks and writes the report.")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that all runs, measures nothing")
    parser.add_argument("--machine", help="the report's folder; by default the processor and its number of cores")
    arguments = parser.parse_args()
    _SCRATCH.mkdir(exist_ok=True)
    raw = _SCRATCH / ("quick.json" if arguments.quick else "full.json")
    # the project's addopts switch pytest-benchmark off for the tests
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-q", "bench", f"--benchmark-json={raw}"]
    command += ["--benchmark-columns=min,median,rounds", *(["--quick"] if arguments.quick else [])]
    status = subprocess.run(command, cwd=_ROOT, check=False).returncode
    if status:
        return status
    # a quick run must not replace measurements
    output = _SCRATCH / "quick" if arguments.quick else RESULTS
    print(f"report: {write_report(load(raw), output, arguments.machine) / 'README.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
