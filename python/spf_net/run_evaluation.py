"""Everything that is measured of one trained run, on the test part of its data."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from spf_data.dataset import XrayDataset
from torch import Tensor

from spf_net.config import RunConfig
from spf_net.evaluation import Evaluation, evaluate_rows
from spf_net.explain import evidence
from spf_net.inference import Run
from spf_net.launch import start_fabric
from spf_net.metrics import youden_thresholds
from spf_net.network import SPFNetwork, count_parameters
from spf_net.pointing import PointingGame, finding_truth, pointing_game, pointing_hits
from spf_net.positions import MapPositions, map_positions
from spf_net.predict import predict
from spf_net.ranking import FloatArray
from spf_net.subgroups import Subgroup, evaluate_subgroups

_EVIDENCE_BATCH = 8


class RowEvidence(NamedTuple):
    """Evidence for some labels of one image.

    Attributes:
        maps: float64 (K, H, W).
        positions: Of the maps' pixels in the image.
    """

    maps: FloatArray
    positions: MapPositions


@dataclass(frozen=True)
class RunEvaluation:
    """What a run is worth.

    Attributes:
        name: Of the run.
        config: Its settings.
        parameters: Number of trainable parameters.
        network: In eval mode.
        rows: int64 (N,), the rows of the data set that are the test part.
        scores: float32 (N, L), their logits.
        labels: float32 (N, L), their labels.
        evaluations: By source, "all" first.
        thresholds: float64 (L,), the operating points, in logits; none where there was no validation part.
        subgroups: By sex, age and view.
        pointing: The pointing game; none where it could not be played.
        no_pointing: Why not; "" where it was.
    """

    name: str
    config: RunConfig
    parameters: int
    network: SPFNetwork
    rows: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.float32]
    evaluations: dict[str, Evaluation]
    thresholds: FloatArray | None
    subgroups: list[Subgroup]
    pointing: PointingGame | None
    no_pointing: str


def evaluate_run(
    name: str, run: Run, dataset: XrayDataset, pointing_images: int, accelerator: str = "auto"
) -> RunEvaluation:
    """Predict the test part of the run's own split in float32 and measure everything.

    Operating points come from its validation part, resamples and their seed from its settings.

    Args:
        name: Of the run.
        run: Trained on `dataset`.
        dataset: Made from `run.config.data`.
        pointing_images: The pointing game looks at this many images of the test part at most, drawn by the run's seed.
        accelerator: What computes: "cpu", "cuda", "mps" or "auto".

    Raises:
        ValueError: If the labels of data set and run differ, or the split leaves no test part.
    """
    if dataset.label_set.names != run.label_set.names:
        raise ValueError(f"run {name} must have the labels of its data set, got {len(run.label_set)} other ones")
    training = run.config.training
    parts = dataset.parts(training.split, training.seed)
    rows = parts["test"]
    if len(rows) == 0:
        raise ValueError(f"run {name} must have a test part, got the split {training.split}")
    fabric = start_fabric(replace(training, accelerator=accelerator, devices=1, strategy="single", precision="32-true"))
    network = fabric.setup_module(run.network).eval()

    def score(part: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        return predict(fabric, network, dataset, part, training.batch_size, training.num_workers)

    thresholds = None
    if len(parts["validation"]):
        validation_labels = dataset.labels[parts["validation"]].numpy()
        thresholds = youden_thresholds(score(parts["validation"]), validation_labels)
    scores, labels = score(rows), dataset.labels[rows].numpy()
    attributes = {key: values[rows] for key, values in dataset.attributes.items()}
    pointing, no_pointing = _play_pointing_game(run, dataset, rows, pointing_images)
    return RunEvaluation(
        name=name,
        config=run.config,
        parameters=count_parameters(run.network),
        network=run.network,
        rows=rows,
        scores=scores,
        labels=labels,
        evaluations=evaluate_rows(scores, rows, dataset, training.resamples, training.seed, thresholds),
        thresholds=thresholds,
        subgroups=evaluate_subgroups(
            scores, labels, dataset.patients[rows], attributes, training.resamples, training.seed
        ),
        pointing=pointing,
        no_pointing=no_pointing,
    )


def row_evidence(
    network: SPFNetwork, dataset: XrayDataset, rows: npt.NDArray[np.int64], labels: list[int] | None = None
) -> Iterator[RowEvidence]:
    """Evidence for each of some rows of a data set, one after the other.

    Args:
        network: In eval mode.
        dataset: Images.
        rows: (N,), which of them.
        labels: Indices of K labels; none for all of them.

    Raises:
        ValueError: If the logits of the network's head have no exact split over the pixels of its maps.
    """
    device = network.classifier.weight.device
    for start in range(0, len(rows), _EVIDENCE_BATCH):
        images, lungs = _stack(dataset, rows[start : start + _EVIDENCE_BATCH], device)
        maps = evidence(network, images, labels, lungs).maps.double().cpu().numpy()
        yield from map(RowEvidence, maps, map_positions(network, images, lungs))


def why_no_evidence(network: SPFNetwork, dataset: XrayDataset) -> str:
    """Why the logits of a network have no exact split over the pixels of its maps; "" where they have one."""
    images, lungs = _stack(dataset, np.array([0]), network.classifier.weight.device)
    with torch.no_grad():
        maps = network.maps(images, lungs)
    try:
        network.head.evidence(maps, network.classifier.weight[:1])
    except ValueError as error:
        return str(error)
    return ""


def _stack(dataset: XrayDataset, rows: npt.NDArray[np.int64], device: torch.device) -> tuple[Tensor, Tensor]:
    samples = [dataset[int(row)] for row in rows]
    images, lungs = torch.stack([sample["image"] for sample in samples]), dataset.lung_boxes[rows]
    return images.to(device), lungs.to(device)


def _play_pointing_game(
    run: Run, dataset: XrayDataset, rows: npt.NDArray[np.int64], pointing_images: int
) -> tuple[PointingGame | None, str]:
    """The pointing game, or why it is not played."""
    truth = finding_truth(dataset)
    if truth is None:
        return None, "the data set does not say where its findings are"
    if reason := why_no_evidence(run.network, dataset):
        return None, reason
    present = dataset.labels.numpy() == 1
    rows = rows[present[rows].any(axis=1)]
    if len(rows) == 0 or pointing_images == 0:
        return None, "no image with a finding was looked at"
    seed = run.config.training.seed
    drawn = np.random.default_rng(seed).permutation(len(rows))[:pointing_images]
    rows = rows[np.sort(drawn)]
    # Absent labels have no truth to look for.
    hits = [
        pointing_hits(found.maps, found.positions, truth.masks(int(row)) & present[row, :, None, None])
        for row, found in zip(rows, row_evidence(run.network, dataset, rows), strict=True)
    ]
    resamples = run.config.training.resamples
    return pointing_game(hits, present[rows], dataset.patients[rows], truth.source, resamples, seed), ""
