"""The shape of a patient's chest.

Coordinates: y is the share of the image's height, downwards. Along x a side of the chest is described by `distance`,
the distance from the midline as a share of the image's width, so that one description serves both sides and a finding
knows its side only by the columns it is painted into.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Patient:
    """What stays the same between two images of a patient; pairs are (right, left).

    Attributes:
        apex: y of the top of the lungs.
        base: y of the costophrenic angles.
        lateral: Greatest distance of the chest wall from the midline.
        dome: Height of the diaphragm's domes.
        mediastinum: Half width of the upper mediastinum.
        heart: Half width of the heart's long axis.
        body: Half width of the trunk at the waist.
        shoulder: y of the shoulders.
        rib_spacing: Distance between ribs along y.
        rib_slope: How far a rib falls from the spine to the chest wall.
        density: Scales the soft tissue: the patient's thickness.
        breast: Density of the breast shadows.
        texture_seed: Seed of vessels and of uneven soft tissue.
    """

    apex: tuple[float, float]
    base: tuple[float, float]
    lateral: tuple[float, float]
    dome: tuple[float, float]
    mediastinum: float
    heart: float
    body: float
    shoulder: float
    rib_spacing: float
    rib_slope: float
    density: float
    breast: float
    texture_seed: int


def sample_patient(random: np.random.Generator) -> Patient:
    """Draw a patient."""
    apex = random.uniform(0.09, 0.16)
    base = random.uniform(0.76, 0.90)
    lateral = random.uniform(0.34, 0.42)
    dome = random.uniform(0.07, 0.12)
    return Patient(
        apex=(apex, apex + random.uniform(-0.01, 0.01)),
        # The left dome stands a little lower than the right in most people.
        base=(base, base + random.uniform(0.0, 0.03)),
        lateral=(lateral, lateral + random.uniform(-0.015, 0.015)),
        dome=(dome, dome * random.uniform(0.85, 1.1)),
        mediastinum=random.uniform(0.04, 0.055),
        heart=lateral * random.uniform(0.38, 0.46),
        body=lateral + random.uniform(0.06, 0.16),
        shoulder=apex - random.uniform(0.0, 0.05),
        rib_spacing=random.uniform(0.075, 0.095),
        rib_slope=random.uniform(0.10, 0.16),
        density=random.uniform(0.9, 1.15),
        breast=max(0.0, random.uniform(-0.12, 0.12)),
        texture_seed=int(random.integers(2**31)),
    )


@dataclass(frozen=True)
class Hemithorax:
    """One side of the chest on the pixel grid of its own columns.

    Attributes:
        side: 0 right, 1 left.
        columns: The image's columns that belong to this side.
        distance: float32 (1, n) distance of each column from the midline.
        y: float32 (H, 1).
        medial: float32 (H, 1) distance of the lung's inner border.
        lateral: float32 (H, 1) distance of the lung's outer border.
        diaphragm: float32 (1, n) y of the diaphragm.
        lung: float32 (H, n) share of each pixel that is lung.
        box: y of top and bottom of the lung, and its inner and outer distance.
        edge: Width of a one-pixel soft edge.
    """

    side: int
    columns: slice
    distance: FloatArray
    y: FloatArray
    medial: FloatArray
    lateral: FloatArray
    diaphragm: FloatArray
    lung: FloatArray
    box: tuple[float, float, float, float]
    edge: float

    def zone(self, number: int) -> slice:
        """Rows of the upper (0), middle (1) or lower (2) third of this very lung's box."""
        top, bottom = (self.row(y) for y in self.box[:2])
        height = (bottom - top) / 3
        return slice(round(top + number * height), round(top + (number + 1) * height))

    def bounding_box(self) -> tuple[float, float, float, float]:
        """Box (x, y, width, height) around the pixels that are mostly lung, as shares of the image's side."""
        solid, size = self.lung > 0.5, len(self.y)
        rows, columns = (np.flatnonzero(solid.any(axis=axis)) for axis in (1, 0))
        x = self.columns.start + int(columns[0])
        width, height = int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1
        return x / size, int(rows[0]) / size, width / size, height / size

    def row(self, y: float) -> float:
        """Height y in pixels from the image's upper border."""
        return (y - float(self.y[0, 0])) * len(self.y) + 0.5


def ramp(signed_distance: Any, width: float) -> Any:
    """0 to 1 across a soft edge of the given width, 0.5 where the signed distance is 0."""
    return np.clip(signed_distance * np.float32(1 / width) + np.float32(0.5), 0, 1)


def hemithorax(patient: Patient, side: int, columns: slice, distance: FloatArray, y: FloatArray) -> Hemithorax:
    """Build one side of a patient's chest on the given columns and rows."""
    edge = max(1.2 / len(y), 0.005)
    apex, base, lateral, dome = (pair[side] for pair in (patient.apex, patient.base, patient.lateral, patient.dome))
    # The top of the lung is a rounded tip at a third of its width.
    tip = patient.mediastinum + 0.3 * (lateral - patient.mediastinum)
    descent = np.clip((y - apex) / (0.72 * (base - apex)), 0, 1)
    outer = tip + (lateral - tip) * np.sqrt(1 - (1 - descent) ** 2.3)
    inner_descent = np.clip((y - apex) / (0.22 * (base - apex)), 0, 1)
    inner = patient.mediastinum + (tip - patient.mediastinum) * (1 - np.sqrt(1 - (1 - inner_descent) ** 2))
    peak = 0.40 * lateral
    diaphragm = base - dome * (1 - ((distance - peak) / (lateral - peak)) ** 2)
    diaphragm = np.minimum(diaphragm, base)
    lung = ramp(outer - distance, edge) * ramp(distance - inner, edge) * ramp(diaphragm - y, edge) * (y > apex)
    solid = lung > 0.5
    rows, covered = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
    across = distance[0, covered]
    half_pixel = 0.5 / len(y)
    top, bottom = float(y[rows[0], 0]) - half_pixel, float(y[rows[-1], 0]) + half_pixel
    box = (top, bottom, float(across.min()), float(across.max()))
    return Hemithorax(side, columns, distance, y, inner, outer, diaphragm, lung, box, edge)
