"""The benchmarks of spf_kernels; `python -m bench` runs them (see bench/README.md)."""

import sys
from pathlib import Path

# network and data are used from their folder, not installed
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))
