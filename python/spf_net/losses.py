"""The training loss: classification over the labels that are known, and the head's own loss."""

import torch
from torch import Tensor
from torch.nn import functional


def masked_bce(logits: Tensor, labels: Tensor, pos_weight: Tensor | None = None, count: Tensor | None = None) -> Tensor:
    """Binary cross-entropy, averaged over the known labels of the batch.

    Args:
        logits: (B, L), any float dtype; computed in float32 at least.
        labels: (B, L) of 1, 0 and NaN for not known.
        pos_weight: (L,) factor on the loss of positive labels.
        count: () what the sum is divided by, where it is not the number of known labels.

    Returns:
        (), 0 where no label of the batch is known.

    Raises:
        ValueError: If logits and labels differ in shape.
    """
    if logits.shape != labels.shape:
        raise ValueError(f"labels must have the shape of logits {tuple(logits.shape)}, got {tuple(labels.shape)}")
    known = ~labels.isnan()
    # Not indexed by the mask: its size would have to be waited for on a GPU.
    targets = labels.nan_to_num(0.0)
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    loss = functional.binary_cross_entropy_with_logits(
        logits, targets.to(logits.dtype), reduction="none", pos_weight=pos_weight
    )
    return (loss * known).sum() / (known.sum().clamp(min=1) if count is None else count)


def positive_weights(labels: Tensor, maximum: float = 100.0) -> Tensor:
    """Negatives per positive of each label, so that both classes weigh the same.

    Args:
        labels: (N, L) of 1, 0 and NaN.
        maximum: Upper bound; also the weight of a label without positives.

    Returns:
        float32 (L,).
    """
    positives = (labels == 1).sum(dim=0)
    negatives = (labels == 0).sum(dim=0)
    return (negatives / positives.clamp(min=1)).clamp(max=maximum).float()
