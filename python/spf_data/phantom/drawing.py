"""What every finding's drawing function takes and returns."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from spf_data.phantom.anatomy import BoolArray, FloatArray, Hemithorax, Patient
from spf_data.phantom.tissue import Layers


@dataclass(frozen=True)
class FindingSpec:
    """One finding, before it is drawn. Drawn on the other side it is the same finding there.

    Attributes:
        name: A name of the catalogue.
        side: 0 right, 1 left; 0 for a finding without a side.
        across: Place between the lung's inner (0) and outer (1) border.
        down: Place between the lung's top (0) and bottom (1).
        size: 0 the smallest, 1 the largest.
        stretch: 0 the roundest, 1 the longest.
        angle: Direction of the long axis in radians.
        contrast: 0 the faintest, 1 the densest.
        seed: Seed of its texture.
    """

    name: str
    side: int
    across: float
    down: float
    size: float
    stretch: float
    angle: float
    contrast: float
    seed: int


@dataclass(frozen=True)
class Canvas:
    """Where a finding is drawn.

    Attributes:
        healthy: The patient without an elevated hemidiaphragm.
        patient: The patient as painted.
        chest: The side.
        layers: The healthy tissue of that side.
        size_scale: Scales diameters.
        contrast_scale: Scales densities.
    """

    healthy: Patient
    patient: Patient
    chest: Hemithorax
    layers: Layers
    size_scale: float
    contrast_scale: float


@dataclass(frozen=True)
class Drawn:
    """A drawn finding.

    Attributes:
        mask: bool (H, n) where it is.
        absorption: float32 (H, n) to add to that of the healthy tissue.
    """

    mask: BoolArray
    absorption: FloatArray


Draw = Callable[[Canvas, FindingSpec], Drawn]


def between(low: float, high: float, share: float) -> float:
    """The number at a share of the way from low to high."""
    return low + (high - low) * share


def place(canvas: Canvas, spec: FindingSpec) -> tuple[float, float]:
    """Distance and y of a finding inside the lung."""
    chest = canvas.chest
    top, bottom = chest.box[:2]
    y = between(top, bottom, spec.down)
    row = min(max(int(chest.row(y)), 0), len(chest.y) - 1)
    inside = np.sort(chest.distance[0, chest.lung[row] > 0.5])
    # The row of the very tip can be narrower than a pixel.
    if len(inside) == 0:
        return float(chest.box[2]), y
    return float(inside[min(int(spec.across * len(inside)), len(inside) - 1)]), y


def ellipse(canvas: Canvas, centre: tuple[float, float], radius: float, stretch: float, angle: float) -> FloatArray:
    """Squared distance from a centre in units of the radius: below 1 inside the ellipse. float32 (H, n)."""
    chest = canvas.chest
    # A finding smaller than a pixel must still own the pixel it lies in.
    radius = max(radius * canvas.size_scale, 0.75 / len(chest.y))
    across, down = chest.distance - np.float32(centre[0]), chest.y - np.float32(centre[1])
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    long = (across * cos + down * sin) * np.float32(1 / (radius * (1 + stretch)))
    short = (down * cos - across * sin) * np.float32((1 + stretch) ** 0.5 / radius)
    return np.asarray(long * long + short * short, dtype=np.float32)
