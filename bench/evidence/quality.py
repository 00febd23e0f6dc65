"""Where explanations point, and what the checks say of the evidence: a network trained on the phantom."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import torch
from spf_data.dataset import XrayDataset
from spf_data.registry import build_dataset
from spf_net.config import RunConfig, parse_config
from spf_net.explain import Evidence, evidence
from spf_net.explain.checks import (
    area_under,
    bias_share,
    cancellation,
    deletion_curve,
    random_deletion_curve,
    randomised_correlation,
)
from spf_net.explain.readout import logits_of_maps
from spf_net.explain.rivals import grad_cam, hirescam, occlusion
from spf_net.inference import load_run
from spf_net.launch import start_fabric
from spf_net.metrics import macro_auroc
from spf_net.network import SPFNetwork
from spf_net.pointing import PointingGame, pointing_game, pointing_hits
from spf_net.positions import map_positions
from spf_net.training import train
from torch import Tensor
from torch.nn import functional

_DEMO = Path(__file__).resolve().parents[2] / "python" / "configs" / "demo.yaml"
# of the maps; both occlusions take windows of a quarter of the image, a map pixel apart
_WINDOWS = 4
_DELETION_STEPS = 32

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Explained:
    """One explanation.

    Attributes:
        pointing: The pointing game.
        area: Mean area under the deletion curve, in logits.
    """

    pointing: PointingGame
    area: float


@dataclass(frozen=True)
class Quality:
    """One network.

    Attributes:
        config: Its settings.
        auroc: Macro AUROC on the test part.
        epochs: Trained.
        images: Of the test part, with a finding, that were explained.
        pairs: (image, present label) pairs.
        explained: By explanation.
        random_area: Mean area under the deletion curve of random orders.
        bias_share: Median over the pairs.
        cancellation: Median over the pairs.
        signed_correlation: Mean over the pairs, of the evidence with that of random weights.
        absolute_correlation: Likewise, of the absolute values.
    """

    config: RunConfig
    auroc: float
    epochs: int
    images: int
    pairs: int
    explained: dict[str, Explained]
    random_area: float
    bias_share: float
    cancellation: float
    signed_correlation: float
    absolute_correlation: float


@dataclass(frozen=True)
class _Case:
    """What is explained."""

    network: SPFNetwork
    images: Tensor
    maps: Tensor
    evidence: Evidence
    present: BoolArray


def measure(activation: str | None, images: int, arguments: Sequence[str] = ()) -> Quality:
    """Train the demo's spf network on the phantom and explain test images with findings.

    Args:
        activation: Of the codes.
        images: At most as many.
        arguments: Of `train.py`, beside the demo's settings.
    """
    code = f"--head.activation={activation or 'null'}"
    with TemporaryDirectory() as folder:
        config = parse_config(
            [f"--config={_DEMO}", code, "--training.max_minutes=null", *arguments, f"--output={folder}/run"]
        )
        dataset = build_dataset(config.data)
        result = train(config, dataset, start_fabric(config.training))
        network = load_run(config.output).network
    labels = dataset.labels[result.rows].numpy()
    auroc = macro_auroc(result.scores.astype(np.float64), labels.astype(np.float64), np.ones((1, len(labels))))
    rows = result.rows[(labels == 1).any(axis=1)][:images]
    case = _case(network, dataset, rows)
    image, label = (torch.from_numpy(index) for index in np.nonzero(case.present))
    explanations = _explanations(case)
    random_area, areas = _areas(case, explanations, image, label)
    signed, absolute = randomised_correlation(network.head, network.classifier, case.maps)
    return Quality(
        config=config,
        auroc=float(auroc[0]),
        epochs=result.epochs,
        images=len(rows),
        pairs=len(image),
        explained={
            name: Explained(_pointing(case, dataset, rows, scores), areas[name])
            for name, scores in explanations.items()
        },
        random_area=random_area,
        bias_share=float(bias_share(case.evidence.maps, case.evidence.bias)[image, label].median()),
        cancellation=float(cancellation(case.evidence.maps)[image, label].median()),
        signed_correlation=float(signed[image, label].nanmean()),
        absolute_correlation=float(absolute[image, label].nanmean()),
    )


def _case(network: SPFNetwork, dataset: XrayDataset, rows: npt.NDArray[np.int64]) -> _Case:
    network.requires_grad_(False)
    images = torch.stack([dataset[int(row)]["image"] for row in rows])
    present = dataset.labels[rows].numpy() == 1
    return _Case(network, images, network.maps(images), evidence(network, images), present)


def _explanations(case: _Case) -> dict[str, Tensor]:
    """(N, L, H, W) each, at the size of the maps."""
    network, maps = case.network, case.maps
    logits_of = logits_of_maps(network.head, network.classifier)
    window = maps.shape[2] // _WINDOWS
    scale = case.images.shape[2] // maps.shape[2]
    of_images = occlusion(lambda images: network(images).logits, case.images, window * scale, scale)
    return {
        "evidence": case.evidence.maps,
        "HiResCAM": hirescam(logits_of, maps),
        "Grad-CAM": grad_cam(logits_of, maps),
        "occlusion of the maps": occlusion(logits_of, maps, window, 1),
        # all pixels of the image in one map pixel have the same value
        "occlusion of the image": functional.avg_pool2d(of_images, scale),
        "size of the maps, whatever the label": maps.abs().mean(1, keepdim=True).expand_as(case.evidence.maps),
    }


def _areas(
    case: _Case, explanations: dict[str, Tensor], image: Tensor, label: Tensor
) -> tuple[float, dict[str, float]]:
    """Mean area under the deletion curves of all pairs (image, label): of random orders, and by explanation."""
    logits_of = logits_of_maps(case.network.head, case.network.classifier)
    maps = case.maps[image]
    steps = min(_DELETION_STEPS, maps[0, 0].numel())
    areas = {
        name: float(area_under(deletion_curve(logits_of, maps, scores[image, label], label, steps)).mean())
        for name, scores in explanations.items()
    }
    return float(area_under(random_deletion_curve(logits_of, maps, label, steps)).mean()), areas


def _pointing(case: _Case, dataset: XrayDataset, rows: npt.NDArray[np.int64], scores: Tensor) -> PointingGame:
    positions = map_positions(case.network, case.images)
    hits = [
        pointing_hits(maps, position, dataset.mask(int(row)) & present[:, None, None])
        for maps, position, row, present in zip(scores.double().numpy(), positions, rows, case.present, strict=True)
    ]
    return pointing_game(hits, case.present, dataset.patients[rows], "masks", resamples=1000, seed=0)
