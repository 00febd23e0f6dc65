"""One table of several runs of train.py and probe.py: `python python/compare.py --help`."""

import argparse
import json
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spf_net.report import TITLES, markdown_table

# Side AUC and pair accuracy ask where, macro AUROC mostly whether.
METRICS = ("macro_auroc", "side_auc", "pair_accuracy")
_SEED = re.compile(r"-seed\d+$")


def main(arguments: Sequence[str]) -> None:
    """Print the table of the runs that the arguments name."""
    parser = argparse.ArgumentParser(
        description="One row a run and source of images; folders named NAME-seed0, NAME-seed1, ... are one row, of "
        "their mean, lowest and highest value."
    )
    parser.add_argument("runs", type=Path, nargs="+", help="output folders of train.py or probe.py")
    options = parser.parse_args(arguments)
    try:
        print(comparison({run: _read(run) for run in options.runs}))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def comparison(runs: Mapping[Path, Mapping[str, Any]]) -> str:
    """A Markdown table of results.

    Args:
        runs: What results.json holds, by the folder of the run.
    """
    groups = defaultdict(list)
    for run, results in runs.items():
        groups[_SEED.sub("", run.name)].append(results["evaluation"])
    rows = []
    for name, evaluations in groups.items():
        for source in evaluations[0]:
            found = [each[source] for each in evaluations if source in each]
            images = [each["images"] for each in found]
            cells = [_cell([each["metrics"][metric]["value"] for each in found]) for metric in METRICS]
            rows.append([name, source, str(len(found)), _range(images), *cells])
    titles = [TITLES[metric].partition(" (")[0] for metric in METRICS]
    return markdown_table(["run", "images from", "seeds", "test images", *titles], rows)


def _cell(values: Sequence[float | None]) -> str:
    """Mean, lowest and highest; "undefined" if any of them is."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "undefined"
    mean = f"{statistics.fmean(known):.3f}"
    return mean if len(known) == 1 else f"{mean} ({min(known):.3f}–{max(known):.3f})"


def _range(counts: Sequence[int]) -> str:
    return str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)}–{max(counts)}"


def _read(run: Path) -> Any:
    path = run / "results.json"
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: the run has not ended, or is none")
    return json.loads(path.read_text())


if __name__ == "__main__":
    main(sys.argv[1:])
