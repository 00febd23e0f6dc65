"""HiResCAM of several labels a backward, the rivals' best forms: under vmap, and of copies of the maps."""

from collections.abc import Iterator

import torch
from spf_net.explain.readout import Logits
from spf_net.heads.base import weigh
from torch import Tensor


def hirescam_by_vmap(logits_of: Logits, maps: Tensor, labels: int, at_once: int) -> Tensor:
    """One forward; torch batches the backward passes of `at_once` labels (`is_grads_batched`).

    Args:
        logits_of: From maps to logits, weights frozen.
        maps: (B, C, H, W).
        labels: L, all are explained.
        at_once: Labels a backward.

    Returns:
        (B, L, H, W).
    """
    leaf = maps.detach().requires_grad_()
    logits = logits_of(leaf)
    parts = []
    for rows in torch.eye(labels).split(at_once):
        upstream = rows.unsqueeze(1).expand(-1, *logits.shape)
        (gradients,) = torch.autograd.grad(logits, leaf, upstream, retain_graph=True, is_grads_batched=True)
        parts.append(weigh(gradients.transpose(0, 1), maps))
    return torch.cat(parts, dim=1)


def hirescam_of_copies(logits_of: Logits, maps: Tensor, labels: int, at_once: int) -> Tensor:
    """The maps are copied for each of `at_once` labels, so that forward and backward are those of one larger batch.

    What one does with packages that want one target an image. Arguments and result as of `hirescam_by_vmap`.
    """
    return torch.cat([weigh(g, maps) for g in _gradients_of_copies(logits_of, maps, labels, at_once)], dim=1)


def grad_cam_of_copies(logits_of: Logits, maps: Tensor, labels: int, at_once: int) -> Tensor:
    """Grad-CAM in the same way."""
    weights = [g.mean((3, 4)) for g in _gradients_of_copies(logits_of, maps, labels, at_once)]
    return torch.einsum("bkc,bchw->bkhw", torch.cat(weights, dim=1), maps).relu()


def _gradients_of_copies(logits_of: Logits, maps: Tensor, labels: int, at_once: int) -> Iterator[Tensor]:
    """(B, at most `at_once`, C, H, W)."""
    for rows in torch.eye(labels).split(at_once):
        copies = maps.repeat(len(rows), 1, 1, 1).requires_grad_()
        upstream = rows.repeat_interleave(len(maps), dim=0)
        (gradients,) = torch.autograd.grad(logits_of(copies), copies, upstream)
        yield gradients.unflatten(0, (len(rows), len(maps))).transpose(0, 1)
