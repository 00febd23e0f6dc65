"""Measure trained networks on the test part of their data: `python python/evaluate.py --help`."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from spf_data.dataset import XrayDataset
from spf_data.registry import DataConfig, build_dataset
from spf_net.checkpoint import write_atomically
from spf_net.config import config_to_dict
from spf_net.examples import make_examples
from spf_net.html_report import render_report
from spf_net.inference import Run, load_run
from spf_net.report import dump, estimate_to_json, evaluation_to_json, or_null
from spf_net.run_evaluation import RunEvaluation, evaluate_run
from spf_net.tables import METRIC_NOTES, label_table, methods_table, source_tables, subgroup_table


def main(arguments: list[str]) -> None:
    """Evaluate the runs that the arguments name; ends with one line where that is not possible."""
    parser = argparse.ArgumentParser(description="Measure trained networks on the test part of their data.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder that train.py has written")
    parser.add_argument("--output", type=Path, required=True, help="folder for results.json, results.md, report.html")
    parser.add_argument("--examples", type=int, default=6, help="example images in the report (default: 6)")
    parser.add_argument(
        "--pointing-images", type=int, default=200, help="images the pointing game looks at, at most (default: 200)"
    )
    parser.add_argument("--accelerator", default="auto", help="cpu, cuda, mps or auto (default: auto)")
    options = parser.parse_args(arguments)
    try:
        evaluate_runs(options.runs, options.output, options.examples, options.pointing_images, options.accelerator)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def evaluate_runs(
    folders: Sequence[Path], output: Path, examples: int, pointing_images: int, accelerator: str = "auto"
) -> None:
    """Evaluate runs on the data set they have in common, and write the results.

    Args:
        folders: Of the runs.
        output: Where to write; the folder of a run is refused, since train.py keeps its results there.
        examples: Example images in the report.
        pointing_images: Images the pointing game looks at, at most.
        accelerator: "cpu", "cuda", "mps" or "auto".

    Raises:
        FileNotFoundError: If a folder holds no trained run.
        ValueError: If the runs were trained on different data, a number is negative, or a run does not fit its data.
    """
    for name, number in (("examples", examples), ("pointing-images", pointing_images)):
        if number < 0:
            raise ValueError(f"{name} must not be negative, got {number}")
    if output.resolve() in [folder.resolve() for folder in folders]:
        raise ValueError(f"output must not be the folder of a run, got {output}")
    runs = {name: load_run(folder) for name, folder in _names(folders).items()}
    data = _common_data(runs)
    dataset = build_dataset(data)
    results = []
    for name, run in runs.items():
        print(f"{name} ...", flush=True)
        results.append(evaluate_run(name, run, dataset, pointing_images, accelerator))
    summary = _summary(data, dataset, results)
    markdown = _markdown(summary, results, dataset)
    page = render_report("Evaluation", summary, results, dataset, make_examples(results, dataset, examples))
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / "results.json", dump(_document(data, dataset, results)))
    write_atomically(output / "results.md", markdown.encode())
    write_atomically(output / "report.html", page.encode())
    print(f"\n{methods_table(results).markdown()}\n\nWritten to {output}.")


def _names(folders: Sequence[Path]) -> dict[str, Path]:
    """Runs are called by their folder's name, or by its path where two have the same name."""
    short = [folder.resolve().name for folder in folders]
    names = {
        name if short.count(name) == 1 else str(folder): folder for name, folder in zip(short, folders, strict=True)
    }
    if len(names) < len(folders):
        raise ValueError(f"runs must be given once each, got {', '.join(map(str, folders))}")
    return names


def _common_data(runs: dict[str, Run]) -> DataConfig:
    first, *others = runs
    for name in others:
        if runs[name].config.data != runs[first].config.data:
            raise ValueError(f"runs must have the same data settings, got other ones for {name} than for {first}")
    return runs[first].config.data


def _summary(data: DataConfig, dataset: XrayDataset, results: Sequence[RunEvaluation]) -> list[str]:
    summary = [
        f"Data: {data.name}, {len(dataset)} images of {len(set(dataset.patients))} patients, "
        f"{len(dataset.label_set)} labels; dropped: {dataset.dropped}. All numbers are of the test part of this data.",
        f"Networks: {', '.join(run.name for run in results)}. PyTorch {torch.__version__}.",
    ]
    if len({run.rows.tobytes() for run in results}) > 1:
        summary.append("The networks have different test parts (seed or split differ): compare them with care.")
    return summary


def _markdown(summary: Sequence[str], results: Sequence[RunEvaluation], dataset: XrayDataset) -> str:
    tables = [
        methods_table(results),
        *source_tables(results),
        label_table(results, dataset.label_set),
        subgroup_table(results),
    ]
    meanings = [f"- **{name}**: {meaning}" for name, meaning in METRIC_NOTES.items()]
    return "\n\n".join(["# Evaluation", *summary, *(table.markdown() for table in tables), "\n".join(meanings)]) + "\n"


def _document(data: DataConfig, dataset: XrayDataset, results: Sequence[RunEvaluation]) -> dict[str, Any]:
    return {
        "data": {"name": data.name, "images": len(dataset), "dropped": dataset.report},
        "torch": str(torch.__version__),
        "runs": {run.name: _run_to_json(run, dataset) for run in results},
    }


def _run_to_json(run: RunEvaluation, dataset: XrayDataset) -> dict[str, Any]:
    names, game = dataset.label_set.names, run.pointing
    thresholds = None
    if run.thresholds is not None:
        thresholds = dict(zip(names, map(or_null, run.thresholds.tolist()), strict=True))
    pointing: dict[str, Any] = {"reason": run.no_pointing}
    if game is not None:
        pointing = asdict(game) | {"hit_rate": estimate_to_json(game.hit_rate), "chance": or_null(game.chance)}
    return {
        "settings": config_to_dict(run.config),
        "parameters": run.parameters,
        "evaluation": {name: evaluation_to_json(item, dataset.label_set) for name, item in run.evaluations.items()},
        "thresholds": thresholds,
        "pointing_game": pointing,
        "subgroups": [asdict(group) | {"macro_auroc": estimate_to_json(group.macro_auroc)} for group in run.subgroups],
    }


if __name__ == "__main__":
    main(sys.argv[1:])
