"""Explanations one usually sees, at the same maps and for the same labels as the evidence, to compare it with."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from spf_net.explain.readout import Logits, chosen_labels
from spf_net.heads.base import CHUNK_ELEMENTS, weigh


def hirescam(logits_of: Logits, maps: Tensor, labels: Sequence[int] | None = None, at_once: int = 1) -> Tensor:
    """Gradient times maps, summed over the maps (Draelos and Carin 2020, "Use HiResCAM instead of Grad-CAM").

    Left with both signs, as defined; packages often cut it off at 0 and scale it.

    Args:
        logits_of: From maps to logits. Freeze its weights, else their gradients may be computed in vain.
        maps: (B, C, H, W).
        labels: Indices of K labels; none for all of them.
        at_once: Labels a backward pass. One is the usual way; several are one pass under `torch.func.vmap`, which
            takes memory for as many gradients of the maps.

    Returns:
        (B, K, H, W).

    Raises:
        ValueError: A label that does not exist, or `at_once` below 1.
    """
    parts = _gradients(logits_of, maps, labels, at_once)
    return torch.cat([weigh(gradients, maps) for gradients in parts], dim=1)


def grad_cam(logits_of: Logits, maps: Tensor, labels: Sequence[int] | None = None, at_once: int = 1) -> Tensor:
    """Maps weighted by the mean of their gradient, summed, cut off at 0 (Selvaraju et al. 2017, eqs. 1 and 2).

    The mean forgets where in a map a pixel counts, so it can not show what a head that preserves positions has seen.

    Args:
        logits_of: See `hirescam`.
        maps: (B, C, H, W).
        labels: Indices of K labels; none for all of them.
        at_once: See `hirescam`.

    Returns:
        (B, K, H, W), not negative.

    Raises:
        ValueError: A label that does not exist, or `at_once` below 1.
    """
    parts = _gradients(logits_of, maps, labels, at_once)
    weights = torch.cat([gradients.mean((3, 4)) for gradients in parts], dim=1)
    return torch.einsum("bkc,bchw->bkhw", weights, maps).relu()


@torch.no_grad()
def occlusion(
    logits_of: Logits, inputs: Tensor, window: int, stride: int, labels: Sequence[int] | None = None
) -> Tensor:
    """What the logit loses when a window is painted over (Zeiler and Fergus 2014, section 4.2).

    The paint is each channel's own mean over the image. A pixel gets the mean over the windows that cover it.

    Args:
        logits_of: From the inputs to logits: the maps, or with the whole network the images.
        inputs: (B, channels, H, W).
        window: Side of the square window.
        stride: From window to window, at most `window`.
        labels: Indices of K labels; none for all of them.

    Returns:
        (B, K, H, W).

    Raises:
        ValueError: A label that does not exist, or windows that do not cover the inputs evenly.
    """
    windows = _windows((inputs.shape[2], inputs.shape[3]), window, stride).to(inputs.device)
    logits = logits_of(inputs)
    chosen = chosen_labels(labels, logits.shape[1])
    paint = inputs.mean((2, 3), keepdim=True)
    lost = inputs.new_zeros(len(inputs), len(chosen), *inputs.shape[2:])
    for part in windows.split(max(1, CHUNK_ELEMENTS // max(1, inputs.numel()))):
        occluded = torch.where(part[:, None, None], paint, inputs)
        left = logits_of(occluded.flatten(0, 1)).unflatten(0, occluded.shape[:2])
        lost += torch.einsum("nbk,nhw->bkhw", (logits - left)[..., chosen], part.to(inputs.dtype))
    return lost / windows.sum(0)


def _gradients(logits_of: Logits, maps: Tensor, labels: Sequence[int] | None, at_once: int) -> Iterator[Tensor]:
    """(B, at most `at_once`, C, H, W): the gradients of the logits, a few labels at a time."""
    if at_once < 1:
        raise ValueError(f"at_once must be positive, got {at_once}")
    with torch.enable_grad():
        leaf = maps.detach().requires_grad_()
        logits = logits_of(leaf)
    chosen = chosen_labels(labels, logits.shape[1])
    rows = torch.eye(logits.shape[1]).to(logits)[chosen]
    for part in rows.split(at_once):
        # The labels come first, for vmap.
        upstream = part.unsqueeze(1).expand(-1, *logits.shape)
        if at_once == 1:
            (gradient,) = torch.autograd.grad(logits, leaf, upstream[0], retain_graph=True)
            yield gradient.unsqueeze(1)
        else:
            (gradients,) = torch.autograd.grad(logits, leaf, upstream, retain_graph=True, is_grads_batched=True)
            yield gradients.transpose(0, 1)


def _windows(size: tuple[int, int], window: int, stride: int) -> Tensor:
    """Bool (N, H, W), one window each; every pixel is in at least one."""
    fits = 1 <= stride <= window <= min(size) and all((length - window) % stride == 0 for length in size)
    if not fits:
        raise ValueError(
            f"window and stride must cover {size} evenly, stride at most window, got window {window}, stride {stride}"
        )
    height, width = size
    masks = []
    for row in range(0, height - window + 1, stride):
        for column in range(0, width - window + 1, stride):
            mask = torch.zeros(height, width, dtype=torch.bool)
            mask[row : row + window, column : column + window] = True
            masks.append(mask)
    return torch.stack(masks)
