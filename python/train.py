"""Train a network that says where findings are: `python python/train.py --help`."""

import sys

from spf_data.registry import build_dataset
from spf_net.checkpoint import write_atomically
from spf_net.config import RunConfig, parse_config
from spf_net.evaluation import evaluate_rows
from spf_net.launch import orderly_end, start_fabric
from spf_net.report import dump, evaluation_table, to_json, training_line
from spf_net.training import train


def main(arguments: list[str]) -> None:
    """Train as the arguments say, print the results on the test part, and write them to the run's folder."""
    config = parse_config(arguments)
    with orderly_end(config.output):
        run(config)


def run(config: RunConfig) -> None:
    """Train one network and evaluate it."""
    fabric = start_fabric(config.training)
    dataset = build_dataset(config.data)
    labels = len(dataset.label_set)
    fabric.print(f"{config.data.name}: {len(dataset)} images, {labels} labels; dropped: {dataset.dropped}")
    result = train(config, dataset, fabric)
    if not fabric.is_global_zero:
        return
    evaluations = evaluate_rows(result.scores, result.rows, dataset, config.training.resamples, config.training.seed)
    table = f"{evaluation_table(evaluations)}\n\n{training_line(result)}\n"
    print(f"\nTest part, head {config.head.name}:\n\n{table}")
    write_atomically(config.output / "results.md", table.encode())
    write_atomically(config.output / "results.json", dump(to_json(result, evaluations, dataset.label_set)))


if __name__ == "__main__":
    main(sys.argv[1:])
