"""What evidence is worth: how much of the logit it holds, and whether the network's weights and logits bear it out."""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor, nn

from spf_net.explain.readout import Logits, chosen_labels
from spf_net.heads import Head


def bias_share(maps: Tensor, bias: Tensor) -> Tensor:
    """Which share of what makes up a logit no pixel explains: |bias| / (sum of |pixel| + |bias|).

    Args:
        maps: (B, K, H, W), evidence.
        bias: (B, K), what no pixel adds.

    Returns:
        (B, K) from 0 to 1; NaN where there is neither.

    Raises:
        ValueError: Shapes that do not fit together.
    """
    if maps.dim() != 4 or bias.shape != maps.shape[:2]:
        raise ValueError(f"maps and bias must be (B, K, H, W) and (B, K), got {tuple(maps.shape)}, {tuple(bias.shape)}")
    return bias.abs() / (maps.abs().sum((2, 3)) + bias.abs())


def cancellation(maps: Tensor) -> Tensor:
    """How much more evidence there is than is left of it: sum of |pixel| / |sum of pixels|.

    1 where all pixels speak for the label, or all against it. Where it is large, a picture of the evidence shows much
    that other pixels take back.

    Args:
        maps: (B, K, H, W), evidence.

    Returns:
        (B, K), 1 or more; infinite where all is taken back, NaN where there is no evidence.
    """
    return maps.abs().sum((2, 3)) / maps.sum((2, 3)).abs()


@torch.no_grad()
def deletion_curve(logits_of: Logits, maps: Tensor, scores: Tensor, labels: Tensor, steps: int | None = None) -> Tensor:
    """The logit while the pixels of the maps are removed, highest score first (Petsiuk et al. 2018, "RISE").

    A removed pixel is 0 in all maps. Where logits are linear in the maps and the scores are the evidence, the curve
    falls by exactly the evidence of what was removed, so that no order falls faster.

    Args:
        logits_of: From maps to logits.
        maps: (B, C, H, W).
        scores: (B, H, W), of the pixels, for one label an image.
        labels: int64 (B,), that label.
        steps: Pixels go in this many portions of about equal size; none for one by one.

    Returns:
        (B, steps + 1), from the whole maps to empty ones.

    Raises:
        ValueError: Shapes that do not fit together, or fewer pixels than steps.
    """
    pixels = maps.shape[2] * maps.shape[3]
    steps = pixels if steps is None else steps
    if scores.shape != (len(maps), *maps.shape[2:]) or labels.shape != (len(maps),):
        raise ValueError(
            f"scores and labels must be (B, H, W) and (B,) for maps {tuple(maps.shape)}, got {tuple(scores.shape)} and "
            f"{tuple(labels.shape)}"
        )
    if not 1 <= steps <= pixels:
        raise ValueError(f"steps must be from 1 to {pixels}, the pixels of the maps, got {steps}")
    # The place of each pixel in the order of removal.
    place = scores.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(dim=1).view_as(scores)
    curve = []
    for step in range(steps + 1):
        is_removed = place < round(pixels * step / steps)
        logits = logits_of(maps.masked_fill(is_removed.unsqueeze(1), 0))
        curve.append(logits.gather(1, labels.unsqueeze(1)).squeeze(1))
    return torch.stack(curve, dim=1)


def random_deletion_curve(
    logits_of: Logits, maps: Tensor, labels: Tensor, steps: int | None = None, draws: int = 8, seed: int = 0
) -> Tensor:
    """What `deletion_curve` must beat: the mean curve of random orders.

    Args:
        logits_of: From maps to logits.
        maps: (B, C, H, W).
        labels: int64 (B,), a label an image.
        steps: See `deletion_curve`.
        draws: Number of random orders.
        seed: Of the orders.

    Returns:
        (B, steps + 1).

    Raises:
        ValueError: As `deletion_curve`, or `draws` below 1.
    """
    if draws < 1:
        raise ValueError(f"draws must be positive, got {draws}")
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.rand(len(maps), *maps.shape[2:], generator=generator).to(maps.device) for _ in range(draws)]
    return torch.stack([deletion_curve(logits_of, maps, order, labels, steps) for order in orders]).mean(0)


def area_under(curve: Tensor) -> Tensor:
    """The mean height of a curve (B, steps + 1) by the trapezoidal rule: (B,), in logits; lower is better."""
    return torch.trapezoid(curve, dim=1) / (curve.shape[1] - 1)


class RandomisedCorrelation(NamedTuple):
    """Rank correlations over the pixels, before against after; NaN where all pixels have the same value.

    Attributes:
        signed: float64 (B, K), of the evidence: about 0 where it depends on what was learnt.
        absolute: float64 (B, K), of its absolute values. They need not fall to 0: evidence is pixels times
            coefficients, and bright pixels stay bright whatever the weights.
    """

    signed: Tensor
    absolute: Tensor


def randomised_correlation(
    head: Head, classifier: nn.Linear, maps: Tensor, labels: Sequence[int] | None = None, seed: int = 0
) -> RandomisedCorrelation:
    """How alike the evidence is to that of untrained weights (Adebayo et al. 2018, "Sanity checks for saliency maps").

    Head and classifier are copied and start again as `reset_parameters` says; the maps stay. A head whose weights
    start from a formula ("dct", "grid") starts from it again, and only the classifier becomes random.

    Args:
        head: The trained head.
        classifier: The trained dense layer.
        maps: (B, C, H, W).
        labels: Indices of K labels; none for all of them.
        seed: Of the new weights; the global random state stays as it was.

    Raises:
        ValueError: As `Head.evidence`, or a label that does not exist.
    """
    chosen = chosen_labels(labels, classifier.weight.shape[0])
    before = head.evidence(maps, classifier.weight[chosen]).maps
    new_head, new_classifier = copy.deepcopy((head, classifier))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for module in (*new_head.modules(), *new_classifier.modules()):
            if list(module.parameters(recurse=False)):
                cast(Any, module).reset_parameters()
    after = new_head.evidence(maps, new_classifier.weight[chosen]).maps
    return RandomisedCorrelation(rank_correlation(before, after), rank_correlation(before.abs(), after.abs()))


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's correlation over the pixels; ties share their mean rank.

    Args:
        first: (B, K, H, W).
        second: (B, K, H, W).

    Returns:
        float64 (B, K), NaN where all pixels of a map have the same value.

    Raises:
        ValueError: Shapes that differ.
    """
    if first.shape != second.shape:
        raise ValueError(f"first and second must have one shape, got {tuple(first.shape)} and {tuple(second.shape)}")
    ranks = [rankdata(maps.detach().cpu().flatten(2).numpy(), axis=2) for maps in (first, second)]
    a, b = (rank - rank.mean(2, keepdims=True) for rank in ranks)
    scale = np.sqrt((a**2).sum(2) * (b**2).sum(2))
    # 0 / 0 is NaN, which is what is wanted.
    with np.errstate(invalid="ignore"):
        return torch.from_numpy((a * b).sum(2) / scale)
