"""`python -m bench.evidence`: times explanations, trains two small networks, writes `results/evidence.md`.

A quarter of an hour and 4 GB; `--quick` takes tiny sizes, measures nothing and writes to `.benchmarks/quick/`.
"""

import argparse
import sys
from pathlib import Path

from bench.evidence import quality, timing
from bench.evidence.page import page
from bench.evidence.timing import Sizes
from bench.files import write_atomically

_ROOT = Path(__file__).resolve().parents[2]
_QUICK = Sizes(2, num_maps=4, side=8, code_size=8, labels=5, window=4)
_QUICK_TRAINING = ("--data.num_images=120", "--training.epochs=1", "--training.batch_size=16")


def run(quick: bool) -> str:
    """Measures everything; the page."""
    cases = [(_QUICK, 2)] if quick else [(Sizes(1), 11), (Sizes(12), 5)]
    timings = [(sizes, rounds, timing.measure(sizes, rounds)) for sizes, rounds in cases]
    images, training = (4, _QUICK_TRAINING) if quick else (200, ("--training.epochs=15",))
    qualities = [quality.measure(activation, images, training) for activation in (None, "relu")]
    return page(timings, qualities, quick)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.evidence", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that all runs, measures nothing")
    quick = parser.parse_args().quick
    folder = _ROOT / ".benchmarks" / "quick" if quick else _ROOT / "bench" / "results"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "evidence.md", run(quick))
    print(f"written: {folder / 'evidence.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
