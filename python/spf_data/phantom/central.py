"""What stands in the middle of a normal chest and is not the same on both sides: heart, aorta, spine, trachea."""

from dataclasses import dataclass

import numpy as np

from spf_data.phantom.anatomy import BoolArray, FloatArray, Patient, ramp


@dataclass(frozen=True)
class Central:
    """Absorption in the middle of the chest, on the whole image.

    Attributes:
        absorption: float32 (H, W).
        heart: float32 (H, W) share of each pixel that is heart.
        mediastinum: bool (H, W) upper mediastinum.
    """

    absorption: FloatArray
    heart: FloatArray
    mediastinum: BoolArray


def central_tissue(patient: Patient, x: FloatArray, y: FloatArray, lung: FloatArray) -> Central:
    """Heart, aorta, spine, trachea and stomach bubble.

    Args:
        patient: Whose chest it is.
        x: float32 (1, W) signed distance from the midline, positive towards the patient's left.
        y: float32 (H, 1).
        lung: float32 (H, W) share of each pixel that is lung, without the heart.
    """
    heart = _heart(patient, x, y)
    widened = max(0.0, patient.mediastinum - 0.055)
    aorta_y = patient.apex[1] + 0.19
    half_width = patient.mediastinum + 0.3 * widened
    band = ramp(half_width - np.abs(x - 0.003), 0.015)
    band = band * ramp(y - patient.apex[1] - 0.03, 0.05) * ramp(aorta_y + 0.13 - y, 0.04)
    knob = ramp(1 - ((x - patient.mediastinum * 0.75) / 0.032) ** 2 - ((y - aorta_y) / 0.035) ** 2, 0.35)
    trachea = ramp(0.016 - np.abs(x + 0.004), 0.012) * ramp(aorta_y + 0.02 - y, 0.06)
    # The heart takes the place of air: below the dome, where there is none, it hardly shows.
    absorption = heart * (np.float32(0.03) + np.float32(0.32) * lung)
    absorption += np.float32(0.05) * band - np.float32(0.09) * trachea + np.float32(0.16) * knob * (1 - heart)
    absorption += _spine(patient, x, y) + _stomach(patient, x, y)
    return Central(absorption.astype(np.float32), heart, band > 0.5)


def no_central_tissue(size: int) -> Central:
    """The middle of the translated anatomy, where nothing stands."""
    nothing = np.zeros((size, size), dtype=np.float32)
    return Central(nothing.copy(), nothing, nothing > 0)


def _heart(patient: Patient, x: FloatArray, y: FloatArray) -> FloatArray:
    """Left ventricle, right atrium and the root of the great vessels; the tip lies towards the left."""
    size = np.float32(patient.heart)
    floor = np.float32((patient.base[0] + patient.base[1]) / 2 - 0.6 * patient.dome[1])
    across, down = x / size, (y - floor) / size
    cos, sin = np.float32(np.cos(0.72)), np.float32(np.sin(0.72))
    long = (across - 0.34) * cos + (down + 0.52) * sin
    short = (down + 0.52) * cos - (across - 0.34) * sin
    ventricle = 1 - long * long - short * short * np.float32(1 / 0.66**2)
    atrium = 1 - ((across + 0.22) / np.float32(0.42)) ** 2 - ((down + 0.52) / np.float32(0.62)) ** 2
    root_width = np.float32(0.50) + np.float32(0.45) * (down + 0.9)
    root = np.minimum(root_width - np.abs(across - 0.10), np.minimum(down + 1.75, -down - 0.3))
    return np.asarray(ramp(np.maximum(np.maximum(ventricle, atrium), 2 * root), 0.14), dtype=np.float32)


def _spine(patient: Patient, x: FloatArray, y: FloatArray) -> FloatArray:
    vertebra = np.cos(y * np.float32(2 * np.pi / (patient.rib_spacing * 0.8)))
    column = ramp(0.030 - np.abs(x), 0.012) * (0.06 + 0.02 * vertebra)
    pedicles = np.clip(1 - ((np.abs(x) - 0.018) / np.float32(0.006)) ** 2, 0, 1) * np.clip(vertebra - 0.6, 0, 1) * 0.08
    return np.asarray(column + pedicles, dtype=np.float32)


def _stomach(patient: Patient, x: FloatArray, y: FloatArray) -> FloatArray:
    """The air bubble under the left dome."""
    across = (x - 0.42 * patient.lateral[1]) / np.float32(0.055)
    down = (y - (patient.base[1] - patient.dome[1] + 0.055)) / np.float32(0.028)
    return np.asarray(-0.16 * ramp(1 - across * across - down * down, 0.5), dtype=np.float32)
