"""What comes after the feature maps, as one function: what explanations at the maps ask."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from spf_net.heads import Head

# (B, C, H, W) -> logits (B, L)
Logits = Callable[[Tensor], Tensor]


def logits_of_maps(head: Head, classifier: nn.Linear) -> Logits:
    """The logits as a function of the maps; no decoder runs."""

    def logits(maps: Tensor) -> Tensor:
        scores: Tensor = classifier(head.flatten_maps(maps))
        return scores

    return logits


def chosen_labels(labels: Sequence[int] | None, count: int) -> list[int]:
    """Indices of labels, all of them for None.

    Raises:
        ValueError: No labels, or one that is not among the `count`.
    """
    chosen = list(range(count)) if labels is None else list(labels)
    if not chosen or not all(0 <= label < count for label in chosen):
        raise ValueError(f"labels must be one or more indices from 0 to {count - 1}, got {chosen}")
    return chosen
