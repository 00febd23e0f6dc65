"""Explanations one usually sees, at the same maps and for the same labels as the evidence, to compare it with."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from spf_net.explain.readout import Logits, chosen_labels
from spf_net.heads.base import weigh


def hirescam(logits_of: Logits, maps: Tensor, labels: Sequence[int] | None = None) -> Tensor:
    """Gradient times maps, summed over the maps (Draelos and Carin 2020, "Use HiResCAM instead of Grad-CAM").

    Left with both signs, as defined; packages often cut it off at 0 and scale it.

    Args:
        logits_of: From maps to logits. Freeze its weights, else their gradients may be computed in vain.
        maps: (B, C, H, W).
        labels: Indices of K labels; none for all of them.

    Returns:
        (B, K, H, W).

    Raises:
        ValueError: A label that does not exist.
    """
    gradients = _gradients(logits_of, maps, labels)
    return torch.cat([weigh(gradient.unsqueeze(1), maps) for gradient in gradients], dim=1)


def grad_cam(logits_of: Logits, maps: Tensor, labels: Sequence[int] | None = None) -> Tensor:
    """Maps weighted by the mean of their gradient, summed, cut off at 0 (Selvaraju et al. 2017, eqs. 1 and 2).

    The mean forgets where in a map a pixel counts, so it can not show what a head that preserves positions has seen.

    Args:
        logits_of: See `hirescam`.
        maps: (B, C, H, W).
        labels: Indices of K labels; none for all of them.

    Returns:
        (B, K, H, W), not negative.

    Raises:
        ValueError: A label that does not exist.
    """
    weights = torch.stack([gradient.mean((2, 3)) for gradient in _gradients(logits_of, maps, labels)], dim=1)
    return torch.einsum("bkc,bchw->bkhw", weights, maps).relu()


@torch.no_grad()
def occlusion(
    logits_of: Logits,
    inputs: Tensor,
    window: int,
    stride: int,
    labels: Sequence[int] | None = None,
    batch_size: int = 64,
) -> Tensor:
    """What the logit loses when a window is painted over (Zeiler and Fergus 2014, section 4.2).

    The paint is each channel's own mean over the image. A pixel gets the mean over the windows that cover it.

    Args:
        logits_of: From the inputs to logits: the maps, or with the whole network the images.
        inputs: (B, channels, H, W).
        window: Side of the square window.
        stride: From window to window, at most `window`.
        labels: Indices of K labels; none for all of them.
        batch_size: Inputs at a time: as many windows of all B images as fit in, at least one.

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
    for part in windows.split(max(1, batch_size // max(1, len(inputs)))):
        occluded = torch.where(part[:, None, None], paint, inputs)
        left = logits_of(occluded.flatten(0, 1)).unflatten(0, occluded.shape[:2])
        lost += torch.einsum("nbk,nhw->bkhw", (logits - left)[..., chosen], part.to(inputs.dtype))
    return lost / windows.sum(0)


def _gradients(logits_of: Logits, maps: Tensor, labels: Sequence[int] | None) -> Iterator[Tensor]:
    """(B, C, H, W) for each label: the gradient of each image's logit; one forward, a backward a label."""
    with torch.enable_grad():
        leaf = maps.detach().requires_grad_()
        logits = logits_of(leaf)
    for label in chosen_labels(labels, logits.shape[1]):
        (gradient,) = torch.autograd.grad(logits[:, label].sum(), leaf, retain_graph=True)
        yield gradient


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
