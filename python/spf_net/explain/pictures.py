"""Evidence overlays for the files of a prediction."""

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from spf_net.checkpoint import write_atomically
from spf_net.explain.evidence import evidence
from spf_net.explain.overlay import onto_image, overlay
from spf_net.inference import Prediction, Refusal, Run, as_input
from spf_net.network import SPFNetwork


class EvidencePictures:
    """Draws why the most probable labels of a file are as probable as they are."""

    def __init__(self, run: Run, labels: Sequence[int], top: int, folder: Path, device: str) -> None:
        """Make sure that the network can be explained.

        Args:
            run: The network, on `device`.
            labels: Indices to choose from.
            top: Pictures a file, of the most probable of `labels`.
            folder: Gets `000001-label.png` and so on: the number of the file in the order of prediction, from 1.
            device: Where the network is.

        Raises:
            ValueError: If `top` is not positive, or the head has no exact evidence.
        """
        if top < 1:
            raise ValueError(f"top must be positive, got {top}")
        self._run, self._labels, self._top, self._folder, self._device = run, labels, top, folder, device
        size = run.config.data.image_size
        evidence(run.network, as_input(np.zeros((1, size, size), dtype=np.uint8), device), labels[:1])

    def drawn(self, predictions: Iterable[Prediction | Refusal]) -> Iterator[Prediction | Refusal]:
        """The same predictions, each handed on when its pictures are written."""
        for number, prediction in enumerate(predictions, start=1):
            if isinstance(prediction, Prediction):
                self._draw(number, prediction.image, prediction.probabilities)
            yield prediction

    def _draw(self, number: int, image: npt.NDArray[np.uint8], probabilities: npt.NDArray[np.float32]) -> None:
        chosen = sorted(self._labels, key=lambda label: -float(probabilities[label]))[: self._top]
        images = as_input(image[None], self._device)
        maps, bias, logits = evidence(self._run.network, images, chosen)
        maps = _over_the_image(self._run.network, images, maps)
        for position, label in enumerate(chosen):
            name = self._run.label_set.names[label]
            drawn = maps[0, position].cpu().numpy()
            caption = _caption(
                name, float(probabilities[label]), float(logits[0, position]), float(bias[0, position]), drawn
            )
            buffer = io.BytesIO()
            overlay(image, drawn, caption).save(buffer, "PNG")
            # Labels may hold anything, and some differ in signs alone.
            slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:80]
            write_atomically(self._folder / f"{number:06d}-{label:03d}-{slug}.png", buffer.getvalue())


def _over_the_image(network: SPFNetwork, images: Tensor, maps: Tensor) -> Tensor:
    if network.lung_regressor is None:
        return maps
    with torch.no_grad():
        lungs = network.lung_regressor(images)
    return onto_image(maps, lungs, network.frame.margin)


def _caption(name: str, probability: float, logit: float, bias: float, drawn: npt.NDArray[np.float32]) -> str:
    return (
        f"{name}: probability {probability:.3f}\n"
        f"logit {logit:+.2f} = {drawn.sum():+.2f} from the pixels of the maps, {bias:+.2f} from no place\n"
        f"orange: for it, blue: against it; strongest pixel {np.abs(drawn).max():.2g}\n"
        "These are map pixels, not image pixels. For research only."
    )
