"""A small network that sees where the lungs are, and its files."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional

from spf_net.checkpoint import write_atomically

FORMAT = "lung regressor 1"
_WEIGHTS, _DESCRIPTION = "lung_regressor.safetensors", "lung_regressor.json"
_INPUT_SIZE = 64
_WIDTHS = (16, 32, 64, 64)


class LungRegressor(nn.Module):
    """From an image to the boxes around its lungs: four strided convolutions and a dense layer.

    Every regressor has the same layers, so that the network which holds one can be built without its file.

    Attributes:
        channels: Of the images.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        layers: list[nn.Module] = []
        for inputs, outputs in zip((channels, *_WIDTHS), _WIDTHS, strict=False):
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.GroupNorm(8, outputs), nn.ReLU()]
        final_size = _INPUT_SIZE // 2 ** len(_WIDTHS)
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(_WIDTHS[-1] * final_size**2, 8))

    def forward(self, images: Tensor) -> Tensor:
        """See where the lungs are.

        Args:
            images: (B, channels, H, W) in [0, 1].

        Returns:
            (B, 2, 4) boxes (x, y, width, height) of the patient's right and left lung as shares of the image's side,
            all in (0, 1).
        """
        small = functional.adaptive_avg_pool2d(images, _INPUT_SIZE)
        boxes: Tensor = self.layers((small - 0.5) * 4).sigmoid()
        return boxes.view(-1, 2, 4)


def box_iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of boxes (..., 4) as (x, y, width, height): (...), NaN where a box is unknown."""
    lower = torch.maximum(first[..., :2], second[..., :2])
    upper = torch.minimum(first[..., :2] + first[..., 2:], second[..., :2] + second[..., 2:])
    shared = (upper - lower).clamp(min=0).prod(dim=-1)
    return shared / (first[..., 2:].prod(dim=-1) + second[..., 2:].prod(dim=-1) - shared)


def save_regressor(folder: Path, regressor: LungRegressor, details: Mapping[str, Any]) -> None:
    """Write a regressor's weights, and a description of them.

    Args:
        folder: Created if missing; what it holds of another regressor is replaced.
        regressor: What to save.
        details: How it was trained and how good it is, as plain values for JSON.

    Raises:
        OSError: If it can not be written.
    """
    weights = save({name: tensor.detach().cpu().contiguous() for name, tensor in regressor.state_dict().items()})
    description = {
        "format": FORMAT,
        "channels": regressor.channels,
        "sha256": hashlib.sha256(weights).hexdigest(),
        "details": details,
    }
    write_atomically(folder / _WEIGHTS, weights)
    write_atomically(folder / _DESCRIPTION, json.dumps(description, indent=1, allow_nan=False).encode())


def has_regressor(folder: Path) -> bool:
    """Whether a regressor was written to this folder."""
    return (folder / _DESCRIPTION).exists()


def load_regressor(folder: Path) -> LungRegressor:
    """Read what `save_regressor` has written.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If the files have another format or do not belong together.
    """
    path = folder / _DESCRIPTION
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no lung regressor: train one with train_lungs.py")
    try:
        description = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} must be JSON, got {error}") from error
    found = description.get("format") if isinstance(description, dict) else description
    if found != FORMAT:
        raise ValueError(f"{path} must have the format {FORMAT!r}, got {found!r}")
    weights = (folder / _WEIGHTS).read_bytes()
    if hashlib.sha256(weights).hexdigest() != description.get("sha256"):
        raise ValueError(f"{folder / _WEIGHTS} is not the file that {_DESCRIPTION} describes: its SHA-256 differs")
    try:
        regressor = LungRegressor(description["channels"])
        regressor.load_state_dict(load(weights))
    except (KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{folder / _WEIGHTS} does not hold the weights of a lung regressor: {error}") from error
    return regressor
