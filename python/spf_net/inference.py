"""A trained network, from its run's folder to probabilities for image files."""

import json
from argparse import ArgumentError
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from spf_data.images import ImageError, read_radiograph, square
from spf_data.labels import Label, LabelSet
from spf_data.phantom.catalogue import FINDINGS
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from spf_net.checkpoint import BEST, FORMAT
from spf_net.config import RunConfig, build_parser
from spf_net.network import SPFNetwork, build_network


class Run(NamedTuple):
    """A trained network.

    Attributes:
        network: With the weights of the best epoch, in eval mode, on the CPU.
        label_set: What its outputs mean, in order.
        config: The settings of its training.
    """

    network: SPFNetwork
    label_set: LabelSet
    config: RunConfig


class Prediction(NamedTuple):
    """What the network says of one file.

    Attributes:
        path: As given.
        view: "AP", "PA", "frontal", or "" where the file does not say.
        image: uint8 (S, S), what the network saw.
        probabilities: float32 (L,).
    """

    path: str
    view: str
    image: npt.NDArray[np.uint8]
    probabilities: npt.NDArray[np.float32]


class Refusal(NamedTuple):
    """A file that is not used.

    Attributes:
        path: As given.
        error: Why.
    """

    path: str
    error: ImageError


class _Input(NamedTuple):
    path: str
    view: str
    image: npt.NDArray[np.uint8]


def load_run(folder: Path) -> Run:
    """Load the best weights of a run.

    Nothing is unpickled: weights are safetensors, settings JSON. Nothing is downloaded: the weights of pre-trained
    backbones and of the lung regressor are the run's own.

    Args:
        folder: As `train.py` left it; of it, `checkpoints/best/` with `state.json` and `model.safetensors` is needed.

    Raises:
        FileNotFoundError: If the folder holds no trained run.
        ValueError: If the checkpoint has another format, is damaged, or does not fit this version's network.
    """
    best = folder / "checkpoints" / BEST
    settings = _read_settings(best)
    config, label_set = _config(settings["config"], best), _label_set(settings["labels"], best)
    network = build_network(
        replace(config.extractor, pretrained=False, backbone_weights={}),
        config.head,
        _channels(config),
        config.data.image_size,
        len(label_set),
        seed=0,
        frame=config.frame,
    )
    weights = best / "model.safetensors"
    try:
        network.load_state_dict(load_file(weights))
    except SafetensorError as error:
        raise ValueError(f"{weights} is damaged: {error}") from error
    # Which lists every weight that is missing, unexpected or of another shape.
    except RuntimeError as error:
        raise ValueError(f"{weights} does not fit the network of its settings: {error}") from error
    return Run(network.eval(), label_set, config)


def _read_settings(best: Path) -> Mapping[str, Any]:
    for name in ("state.json", "model.safetensors"):
        if not (best / name).is_file():
            raise FileNotFoundError(f"{best / name} does not exist; run must be a folder that train.py has written")
    try:
        document = json.loads((best / "state.json").read_bytes())
    except ValueError as error:
        raise ValueError(f"{best / 'state.json'} is not valid JSON: {error}") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        found = document.get("format") if isinstance(document, dict) else type(document).__name__
        raise ValueError(f"{best / 'state.json'} must have checkpoint format {FORMAT}, got {found}")
    settings: Any = document
    for key in ("state", "settings"):
        settings = settings.get(key)
        if not isinstance(settings, dict):
            raise ValueError(f"{best / 'state.json'} lacks {key}")
    missing = [key for key in ("config", "labels") if key not in settings]
    if missing:
        raise ValueError(f"{best / 'state.json'} lacks the settings {missing}")
    plain: dict[str, Any] = settings
    return plain


def _config(settings: Mapping[str, Any], best: Path) -> RunConfig:
    parser = build_parser()
    parser.exit_on_error = False
    try:
        parsed = parser.instantiate(parser.parse_object(dict(settings)))
        parsed.pop("config")
        return RunConfig(**vars(parsed))
    except (ArgumentError, TypeError, ValueError) as error:
        raise ValueError(f"the settings in {best / 'state.json'} are not those of this version: {error}") from error


def _channels(config: RunConfig) -> int:
    maps = config.data.name == "phantom" and config.data.mode == "maps"
    return len(FINDINGS) if maps else 1


def _label_set(labels: Sequence[Mapping[str, Any]], best: Path) -> LabelSet:
    try:
        return LabelSet(tuple(Label(**label) for label in labels))
    except (TypeError, ValueError) as error:
        raise ValueError(f"the labels in {best / 'state.json'} are not those of this version: {error}") from error


class _Files(Dataset[_Input | Refusal]):
    """Files as what the network takes, or as the reason why not."""

    def __init__(self, paths: Sequence[str], size: int) -> None:
        self._paths, self._size = paths, size

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> _Input | Refusal:
        path = self._paths[index]
        try:
            radiograph = read_radiograph(Path(path))
        except ImageError as error:
            return Refusal(path, error)
        return _Input(path, radiograph.view, square(radiograph.pixels, self._size))


def predict_files(
    run: Run, paths: Sequence[str], batch_size: int = 16, device: str = "cpu", num_workers: int = 0
) -> Iterator[Prediction | Refusal]:
    """Probabilities for image files, in their order, with a few batches in memory at a time.

    Args:
        run: The network; moved to `device`.
        paths: PNG, JPEG or DICOM files. One that can not be used is refused and does not end the others.
        batch_size: Files at a time.
        device: "cpu", "cuda" and so on.
        num_workers: Processes that read files; 0 reads them in this one.

    Raises:
        ValueError: If a number is out of range, or the network needs lung boxes, which files do not have, or the
            phantom's feature maps.
        FloatingPointError: While iterating, if the network's output is not finite.
    """
    if batch_size < 1 or num_workers < 0:
        raise ValueError(
            f"batch_size must be positive and num_workers not negative, got {batch_size} and {num_workers}"
        )
    if run.config.frame.source == "lungs":
        raise ValueError("frame must be 'image' or 'predicted' to predict files, which have no lung boxes, got 'lungs'")
    if _channels(run.config) != 1:
        raise ValueError("run must be one on images to predict files, got one on the phantom's feature maps")
    run.network.to(device)
    loader: DataLoader[_Input | Refusal] = DataLoader(
        _Files(paths, run.config.data.image_size),
        batch_size,
        num_workers=num_workers,
        collate_fn=list,
        # Of its own, so that the global random state stays as it is.
        generator=torch.Generator(),
    )
    return (prediction for batch in loader for prediction in _classify(run.network, batch, device))


def _classify(network: SPFNetwork, batch: Sequence[_Input | Refusal], device: str) -> Iterator[Prediction | Refusal]:
    inputs = [item for item in batch if isinstance(item, _Input)]
    probabilities: Iterator[npt.NDArray[np.float32]] = iter(())
    if inputs:
        images = np.stack([item.image for item in inputs])
        probabilities = iter(_probabilities(network, as_input(images, device)))
    for item in batch:
        yield Prediction(*item, next(probabilities)) if isinstance(item, _Input) else item


def as_input(images: npt.NDArray[np.uint8], device: str) -> Tensor:
    """Images (B, S, S) as what the network takes: float32 (B, 1, S, S) in [0, 1]."""
    return torch.from_numpy(images).to(device)[:, None].to(torch.float32) / 255


@torch.inference_mode()
def _probabilities(network: SPFNetwork, images: Tensor) -> npt.NDArray[np.float32]:
    probabilities: npt.NDArray[np.float32] = network(images).logits.sigmoid().cpu().numpy()
    if not np.isfinite(probabilities).all():
        raise FloatingPointError("the network's output is not finite")
    return probabilities
