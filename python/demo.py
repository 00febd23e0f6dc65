"""Four heads on the phantom, trained alike and compared: `python python/demo.py --help`."""

import math
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from lightning_fabric import Fabric
from spf_data.dataset import XrayDataset
from spf_data.registry import build_dataset
from spf_net.checkpoint import write_atomically
from spf_net.config import RunConfig, parse_config
from spf_net.evaluation import Evaluation, evaluate_rows
from spf_net.heads import DEMO_HEADS
from spf_net.launch import orderly_end, start_fabric
from spf_net.plots import plot_examples, plot_label_auroc
from spf_net.report import comparison_table, dump, to_json
from spf_net.training import TrainingResult, train

CONFIG = Path(__file__).parent / "configs" / "demo.yaml"
EXAMPLES = 8

Results = dict[str, tuple[TrainingResult, dict[str, Evaluation]]]


def main(arguments: list[str]) -> None:
    """Train every head from the same start, print one table, and save it with its pictures."""
    config = parse_config([f"--config={CONFIG}", *arguments])
    with orderly_end(config.output):
        run(config)


def run(config: RunConfig) -> None:
    """Compare the heads."""
    if config.training.strategy == "map_parallel":
        raise ValueError("strategy must be 'single' or 'ddp' to compare heads, got 'map_parallel'")
    started = time.perf_counter()
    fabric = start_fabric(config.training)
    dataset = build_dataset(config.data)
    fabric.print(f"{config.data.name}: {len(dataset)} images, {len(dataset.label_set)} labels")
    results = compare_heads(config, dataset, fabric)
    if fabric.is_global_zero:
        table = comparison_table(
            {name: (result, evaluations["all"]) for name, (result, evaluations) in results.items()}
        )
        save(config.output, table, results, dataset)
        print(f"\n{table}\n\nWritten to {config.output} in {time.perf_counter() - started:.0f} s.")


def compare_heads(config: RunConfig, dataset: XrayDataset, fabric: Fabric) -> Results:
    """Train and evaluate each head with the same seed, so with the same split, order and initial extractor.

    What a head leaves of `max_minutes` goes to those after it, so the limit holds on average.
    """
    results: Results = {}
    minutes_left = (config.training.max_minutes or math.inf) * len(DEMO_HEADS)
    for number, name in enumerate(DEMO_HEADS):
        fabric.print(f"\n{name}")
        limit = minutes_left / (len(DEMO_HEADS) - number)
        training = replace(config.training, max_minutes=None if math.isinf(limit) else limit)
        head = replace(config.head, name=name)
        result = train(replace(config, head=head, training=training, output=config.output / name), dataset, fabric)
        minutes_left -= result.seconds / 60
        evaluations = evaluate_rows(
            result.scores, result.rows, dataset, config.training.resamples, config.training.seed
        )
        results[name] = (result, evaluations)
    return results


def save(output: Path, table: str, results: Results, dataset: XrayDataset) -> None:
    """Write table, numbers and pictures."""
    label_set = dataset.label_set
    document = {name: to_json(result, evaluations, label_set) for name, (result, evaluations) in results.items()}
    write_atomically(output / "results.md", f"{table}\n".encode())
    write_atomically(output / "results.json", dump(document))
    aurocs = {name: evaluations["all"].labels.auroc for name, (_, evaluations) in results.items()}
    plot_label_auroc(aurocs, label_set, output / "label_auroc.png")
    several = np.flatnonzero((dataset.labels.numpy() == 1).sum(axis=1) >= 2)[:EXAMPLES]
    plot_examples(dataset, several.tolist(), output / "examples.png")


if __name__ == "__main__":
    main(sys.argv[1:])
