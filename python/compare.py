"""One table of several runs of train.py and probe.py: `python python/compare.py --help`."""

import argparse
import json
import math
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spf_net.evaluation import Estimate
from spf_net.report import TITLES, format_estimate, format_number, markdown_table

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
        # A small split may lack a source that another one has.
        for source in dict.fromkeys(source for each in evaluations for source in each):
            found = [each[source] for each in evaluations if source in each]
            images = [each["images"] for each in found]
            cells = [_cell([each["metrics"][metric]["value"] for each in found]) for metric in METRICS]
            rows.append([name, source, str(len(found)), _range(images), *cells])
    titles = [TITLES[metric].partition(" (")[0] for metric in METRICS]
    return markdown_table(["run", "images from", "seeds", "test images", *titles], rows)


def _cell(values: Sequence[float | None]) -> str:
    """Mean, lowest and highest; "undefined" if any of them is."""
    numbers = [math.nan if value is None else value for value in values]
    mean = statistics.fmean(numbers)
    return format_number(mean) if len(numbers) == 1 else format_estimate(Estimate(mean, min(numbers), max(numbers)))


def _range(counts: Sequence[int]) -> str:
    return str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)}–{max(counts)}"


def _read(run: Path) -> Any:
    path = run / "results.json"
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: the run has not ended, or is none")
    return json.loads(path.read_text())


if __name__ == "__main__":
    main(sys.argv[1:])
