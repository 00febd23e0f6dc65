"""The probe that a network must beat, on any data set with images: `python python/probe.py --help`."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from spf_data.dataset import XrayDataset
from spf_data.registry import DataConfig, build_dataset
from spf_net.checkpoint import write_atomically
from spf_net.config import parse_settings
from spf_net.evaluation import evaluate_rows
from spf_net.lung_frame import FrameConfig, report_frames
from spf_net.report import dump, evaluation_table, evaluation_to_json
from spf_net.study.folds import Fold
from spf_net.study.hog import Features, framed_hog, probe
from torch.utils.data import DataLoader

_BATCH = 64
_DESCRIPTION = "Histograms of oriented gradients and a logistic regression a label, scored as train.py scores networks."


@dataclass(frozen=True)
class ProbeConfig:
    """Settings of the probe; with those of a network it has the network's parts.

    Attributes:
        data: What to train on.
        frame: Which part of the image is seen: "image" or "lungs".
        flip: Train on the mirrored images too, with the labels and lungs of right and left swapped.
        split: Shares of the patients in train, validation and test, for data without a split of its own.
        seed: Of the split and the bootstrap.
        resamples: Of the patients, for the confidence intervals.
        output: Folder for results.md and results.json.
        overwrite: Replace the results that `output` holds.
    """

    data: DataConfig = field(default_factory=DataConfig)
    frame: FrameConfig = field(default_factory=FrameConfig)
    flip: bool = False
    split: tuple[float, float, float] = (0.7, 0.1, 0.2)
    seed: int = 0
    resamples: int = 200
    output: Path = Path("runs/probe")
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.frame.source == "predicted":
            raise ValueError("frame must be 'image' or 'lungs' for the probe, got 'predicted'")
        if self.resamples < 1:
            raise ValueError(f"resamples must be at least 1, got {self.resamples}")


def main(arguments: list[str]) -> None:
    """Fit the probe as the arguments say, print its results on the test part, and write them to its folder."""
    config = parse_settings(ProbeConfig, _DESCRIPTION, arguments)
    try:
        run(config)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def run(config: ProbeConfig) -> None:
    """Fit the probe on one data set and evaluate it."""
    results = config.output / "results.json"
    if results.exists() and not config.overwrite:
        raise FileExistsError(f"{config.output} holds results: pass --overwrite to replace them, or another --output")
    dataset = build_dataset(config.data)
    print(f"{config.data.name}: {len(dataset)} images, {len(dataset.label_set)} labels; dropped: {dataset.dropped}")
    margin = config.frame.margin if config.frame.source == "lungs" else None
    if margin is not None:
        print(report_frames(dataset.lung_boxes, "'image'"))
    plain, mirrored = _features(dataset, margin, config.flip)
    fold = Fold(**dataset.parts(config.split, config.seed))
    scores = probe(plain, mirrored, dataset.labels.numpy(), dataset.label_set, fold)
    evaluations = evaluate_rows(scores, fold.test, dataset, config.resamples, config.seed)
    table = evaluation_table(evaluations)
    print(f"\nTest part, HOG + logistic regression:\n\n{table}\n")
    write_atomically(config.output / "results.md", f"{table}\n".encode())
    described = {name: evaluation_to_json(each, dataset.label_set) for name, each in evaluations.items()}
    write_atomically(results, dump({"features": plain.shape[1], "evaluation": described}))


def _features(dataset: XrayDataset, margin: float | None, flip: bool) -> tuple[Features, Features | None]:
    """Of all images, and of all mirrored ones; each image is read once, and a few are in memory at a time."""
    plain, mirrored = [], []
    for samples in DataLoader(dataset, _BATCH):
        plain.append(framed_hog(samples["image"], samples["lungs"], margin))
        if flip:
            mirrored.append(framed_hog(samples["image"], samples["lungs"], margin, mirror=True))
    return np.concatenate(plain), np.concatenate(mirrored) if flip else None


if __name__ == "__main__":
    main(sys.argv[1:])
