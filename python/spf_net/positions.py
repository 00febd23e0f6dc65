"""Where in the image the pixels of the maps are, with and without a lung frame."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from spf_net.lung_frame import resample
from spf_net.network import SPFNetwork
from spf_net.ranking import FloatArray


class MapPositions(NamedTuple):
    """Centres of the pixels of one image's maps, as shares of the image's height and width from its upper left corner.

    Attributes:
        rows: float64 (H,), ascending.
        columns: float64 (W,), ascending. Map pixels beyond the image's border have the position of those at the border.
    """

    rows: FloatArray
    columns: FloatArray


@torch.no_grad()
def map_positions(network: SPFNetwork, images: Tensor, lungs: Tensor | None = None) -> list[MapPositions]:
    """Where the pixels of the maps are that the head sees.

    Args:
        network: In eval mode.
        images: (B, channels, H, W) in [0, 1].
        lungs: (B, 2, 4), for a network with a lung frame of given boxes.

    Returns:
        One for each image.

    Raises:
        ValueError: If the frame is "lungs" and `lungs` is None.
    """
    height, width = network.extractor.map_size
    rows = (torch.arange(height, dtype=torch.float64) + 0.5) / height
    columns = (torch.arange(width, dtype=torch.float64) + 0.5) / width
    # What moves maps moves their coordinates along with them: bilinear weights are exact on these ramps.
    ramps = torch.stack([rows[:, None].expand(height, width), columns.expand(height, width)])
    ramps = ramps.expand(len(images), -1, -1, -1)
    if network.lung_regressor is not None:
        lungs = network.lung_regressor(images)
    if network.frame.source != "image":
        if lungs is None:
            raise ValueError("lungs must be boxes (B, 2, 4), NaN where not known, for the frame 'lungs', got None")
        ramps = resample(ramps, lungs.cpu(), network.frame.margin)
    return [MapPositions(ramp[0, :, 0].numpy(), ramp[1, 0, :].numpy()) for ramp in ramps]


def to_image(pixels: FloatArray, positions: MapPositions, size: int) -> FloatArray:
    """One map interpolated at the image's pixels, 0 outside of the frame; for the eye, its sum is not kept.

    Args:
        pixels: float64 (H, W).
        positions: Of the map's pixels.
        size: S, height and width of the image.

    Returns:
        float64 (S, S).

    Raises:
        ValueError: If the shapes do not fit together.
    """
    expected = (len(positions.rows), len(positions.columns))
    if pixels.shape != expected:
        raise ValueError(f"pixels must be {expected}, got {pixels.shape}")
    rows, columns = _interpolation(positions.rows, size), _interpolation(positions.columns, size)
    image: FloatArray = rows @ pixels @ columns.T
    return image


def spacing(centres: FloatArray) -> float:
    """Distance between neighbouring centres along an axis; 1, the whole image, where there is one pixel alone."""
    # At the image's border they may be closer.
    return float(np.diff(centres).max()) if len(centres) > 1 else 1.0


def _interpolation(centres: FloatArray, size: int) -> FloatArray:
    """Weight of each map pixel for each image pixel along an axis: (S, len(centres))."""
    wanted = (np.arange(size) + 0.5) / size
    weights = np.stack([np.interp(wanted, centres, unit) for unit in np.eye(len(centres))], axis=1)
    margin = spacing(centres) / 2
    inside = (wanted >= centres[0] - margin) & (wanted <= centres[-1] + margin)
    weights[~inside] = 0
    return weights
