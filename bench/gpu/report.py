"""Writes the report of a run and prints its summary: `python -m bench.gpu.report FOLDER`."""

import importlib.util
import sys
from pathlib import Path

from bench.files import write_atomically
from bench.gpu import tables
from bench.gpu.results import MEASUREMENTS, Results, Row, load, slug, to_json

_RESULTS = Path(__file__).resolve().parent.parent / "results"
STAGES = "stages.tsv"


def read_stages(path: Path) -> list[Row]:
    """The lines that bench/gpu.sh left: stage, verdict, seconds."""
    rows = []
    for line in path.read_text().splitlines():
        stage, verdict, seconds = line.split("\t")
        rows.append({"stage": stage, "verdict": verdict, "seconds": int(seconds)})
    return rows


def _pictures(results: Results) -> dict[str, bytes]:
    if not any("span" in row for row in results.rows):
        return {}
    if importlib.util.find_spec("matplotlib") is None:
        print("plots left out: matplotlib is not installed")
        return {}
    from bench.gpu import plots

    return plots.draw(results)


def write(results: Results, folder: Path) -> None:
    """README.md, results.json and, where matplotlib is installed, two plots."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = _pictures(results)
    for name, picture in pictures.items():
        write_atomically(folder / name, picture)
    write_atomically(folder / "results.json", to_json(results))
    write_atomically(folder / "README.md", tables.page(results, list(pictures)))


def main() -> None:
    scratch = Path(sys.argv[1])
    measured = scratch / MEASUREMENTS
    results = load(measured) if measured.exists() else Results()
    results.stages = read_stages(scratch / STAGES)
    # only what a card measured belongs to the results
    smoke = results.machine.get("smoke", True)
    folder = scratch / "report" if smoke else _RESULTS / slug(results.machine)
    write(results, folder)
    (scratch / "folder.txt").write_text(str(folder))
    print(tables.summary(results, str(folder)))


if __name__ == "__main__":
    main()
