"""Turns a run into `bench/results/<machine>/`: README.md, results.json and plots.

`python -m bench.report RAW.json [--machine NAME] [--output FOLDER]`
"""

import argparse
from pathlib import Path

from bench import plots, tables
from bench.files import write_atomically
from bench.results import Results, load, machine_name, slim_json

RESULTS = Path(__file__).resolve().parent / "results"


def write_report(results: Results, output: Path, machine: str | None = None) -> Path:
    """Writes the report of one run.

    Args:
        results: The run.
        output: The folder that holds one folder a machine.
        machine: The folder's name, by default the processor and its number of cores.

    Returns:
        The folder written.
    """
    folder = output / (machine or machine_name(results.machine))
    folder.mkdir(parents=True, exist_ok=True)
    pictures = plots.draw(results)
    for name, picture in pictures.items():
        write_atomically(folder / name, picture)
    write_atomically(folder / "results.json", slim_json(results).encode())
    write_atomically(folder / "README.md", tables.page(results, list(pictures)).encode())
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__.splitlines()[0])
    parser.add_argument("raw", type=Path, help="the JSON that pytest-benchmark wrote")
    parser.add_argument("--machine", help="the folder's name; by default the processor and its number of cores")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the folder of all machines (%(default)s)")
    arguments = parser.parse_args()
    print(write_report(load(arguments.raw), arguments.output, arguments.machine))


if __name__ == "__main__":
    main()
