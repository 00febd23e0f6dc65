"""Explanations of all labels at the maps of the paper's size, in turn, round after round."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import torch
from spf_net.explain.readout import Logits, logits_of_maps
from spf_net.explain.rivals import grad_cam, hirescam, occlusion
from spf_net.heads import HeadConfig, SPFHead
from spf_net.heads.base import CHUNK_ELEMENTS
from torch import Tensor, nn

from bench.evidence.batched import grad_cam_of_copies, hirescam_by_vmap, hirescam_of_copies
from bench.peers import LoopEncoder

OURS = "evidence"
_SEED = 0
_LARGEST_ERROR = 1e-3


@dataclass(frozen=True)
class Sizes:
    """What is explained: B images of C maps, codes of D with ReLU, L labels.

    Attributes:
        batch: B.
        num_maps: C.
        side: Height and width of a map.
        code_size: D.
        labels: L.
        window: Side of the occluded window; the next one is half of it away.
    """

    batch: int
    num_maps: int = 128
    side: int = 64
    code_size: int = 128
    labels: int = 57
    window: int = 8


@dataclass(frozen=True)
class Timing:
    """Of one explanation.

    Attributes:
        seconds: Median over the rounds.
        least: The shortest.
        ours_is_faster_by: Median over the rounds of the ratio within a round.
        error: |result - ours| / |ours| where it should be the same, as norms; None where it is another explanation.
    """

    seconds: float
    least: float
    ours_is_faster_by: float
    error: float | None


def providers(sizes: Sizes) -> dict[str, Callable[[], Tensor]]:
    """Every explanation of the same maps by the same weights, all frozen, so that no gradient of theirs is computed."""
    with torch.random.fork_rng():
        torch.manual_seed(_SEED)
        config = HeadConfig(code_size=sizes.code_size, activation="relu", reconstruction_weight=0)
        head = SPFHead(config, sizes.num_maps, (sizes.side, sizes.side)).requires_grad_(False)
        classifier = nn.Linear(head.features, sizes.labels).requires_grad_(False)
        maps = torch.randn(sizes.batch, sizes.num_maps, sizes.side, sizes.side).relu()
    ours, loop = logits_of_maps(head, classifier), _logits_by_loop(head, classifier)
    # as many labels a pass as the evidence takes
    labels, several = sizes.labels, max(1, CHUNK_ELEMENTS // maps.numel())
    return {
        "HiResCAM, a backward a label": lambda: hirescam(ours, maps),
        "HiResCAM, vmap": lambda: hirescam_by_vmap(ours, maps, labels, several),
        "HiResCAM, copies": lambda: hirescam_of_copies(ours, maps, labels, several),
        "HiResCAM, a backward a label, loop of nn.Linear": lambda: hirescam(loop, maps),
        "HiResCAM, vmap, loop of nn.Linear": lambda: hirescam_by_vmap(loop, maps, labels, several),
        "Grad-CAM, a backward a label": lambda: grad_cam(ours, maps),
        "Grad-CAM, copies": lambda: grad_cam_of_copies(ours, maps, labels, several),
        "occlusion of the maps": lambda: occlusion(ours, maps, sizes.window, sizes.window // 2),
        OURS: lambda: head.evidence(maps, classifier.weight).maps,
    }


def _logits_by_loop(head: SPFHead, classifier: nn.Linear) -> Logits:
    """The same head as it is usually written, which vmap batches well: baddbmm would have the weight copied a label."""
    weight, bias = head.encoder.weight, head.encoder.bias
    if bias is None:
        raise ValueError("head must have encoders with a bias, got none")
    encoder = LoopEncoder(weight, bias).requires_grad_(False)

    def logits(maps: Tensor) -> Tensor:
        scores: Tensor = classifier(encoder(maps).relu())
        return scores

    return logits


def measure(sizes: Sizes, rounds: int) -> dict[str, Timing]:
    """Times all explanations in turn; the first round is checked, not timed.

    Raises:
        ValueError: If HiResCAM is not the evidence.
    """
    explanations = providers(sizes)
    expected = explanations[OURS]()
    errors: dict[str, float | None] = {}
    for name, explain in explanations.items():
        found = explain()
        errors[name] = None
        if name.startswith("HiResCAM"):
            error = float((found - expected).norm() / expected.norm())
            if not error < _LARGEST_ERROR:
                raise ValueError(f"{name} must be the evidence, got a relative difference of {error}")
            errors[name] = error
    seconds: dict[str, list[float]] = {name: [] for name in explanations}
    for _ in range(rounds):
        for name, explain in explanations.items():
            start = perf_counter()
            explain()
            seconds[name].append(perf_counter() - start)
    return {
        name: Timing(
            median(taken),
            min(taken),
            median(theirs / ours for theirs, ours in zip(taken, seconds[OURS], strict=True)),
            errors[name],
        )
        for name, taken in seconds.items()
    }
