"""Evidence beside other explanations: how long it takes, where it points; `python -m bench.evidence` runs it."""

import sys
from pathlib import Path

# the network is used from its folder, not installed
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python"))
