"""The normal chest: how much each pixel of a healthy patient absorbs, before any finding."""

from dataclasses import dataclass

import numpy as np

from spf_data.phantom.anatomy import FloatArray, Hemithorax, Patient, ramp
from spf_data.phantom.texture import field, hilum, vessels

# Absorption in units in which a whole thickness of soft tissue is about 0.6 and a healthy lung takes away 0.42.
LUNG_DEPTH = np.float32(0.42)


@dataclass(frozen=True)
class Layers:
    """Absorption of one side of the chest.

    Attributes:
        absorption: float32 (H, n) of all tissue together.
        vessels: float32 (H, n) the share of it that is lung vessels, which some findings push aside.
    """

    absorption: FloatArray
    vessels: FloatArray


def side_tissue(patient: Patient, chest: Hemithorax, seed: int) -> Layers:
    """Everything that both sides have: wall, lung, ribs, clavicle, diaphragm, vessels.

    Args:
        patient: Whose chest it is.
        chest: The side.
        seed: Seed of the uneven soft tissue and the vessels.
    """
    random = np.random.default_rng(seed)
    vessel = np.float32(0.13) * vessels(chest, random) * chest.lung + _hilum(chest)
    uneven = np.float32(0.03) * field(random, chest.distance, chest.y, 8, 0.5, 5.0)
    absorption = _body(patient, chest) * (1 + uneven)
    absorption += _abdomen(patient, chest) - _air(chest)
    absorption += vessel + _ribs(patient, chest) + _clavicle(patient, chest) + _shoulder_blade(patient, chest)
    absorption += np.float32(0.16) * ramp(_mediastinum_width(patient, chest) - chest.distance, 0.03)
    return Layers(absorption, vessel)


def _abdomen(patient: Patient, chest: Hemithorax) -> FloatArray:
    below = chest.y - chest.diaphragm
    inside = ramp(patient.lateral[chest.side] + 0.01 - chest.distance, 0.05)
    # Little tissue lies behind the top of a dome, more further down.
    return np.asarray(inside * (0.16 * ramp(below, 2 * chest.edge) + 0.12 * ramp(below - 0.06, 0.12)), dtype=np.float32)


def _mediastinum_width(patient: Patient, chest: Hemithorax) -> FloatArray:
    """The mediastinum narrows towards the neck, and again below the great vessels."""
    down = chest.y - patient.apex[chest.side]
    vessels_at = np.float32(0.12) * np.clip(1 - ((down - 0.20) / np.float32(0.12)) ** 2, 0, 1)
    share = np.float32(0.72) + np.float32(0.2) * np.clip(down * np.float32(5), 0, 1) + vessels_at
    return np.asarray(patient.mediastinum * share, dtype=np.float32)


def _body(patient: Patient, chest: Hemithorax) -> FloatArray:
    """Soft tissue of neck, shoulders and trunk; air outside."""
    y, distance = chest.y, chest.distance
    rise = np.clip((y - patient.shoulder + 0.10) / np.float32(0.16), 0, 1)
    shoulders = 0.13 + 0.50 * rise * rise * (3 - 2 * rise)
    waist = np.clip((y - 0.25) / np.float32(0.45), 0, 1)
    half_width = shoulders + (patient.body - 0.63) * waist * waist * (3 - 2 * waist)
    # Rays near the skin cross less tissue.
    depth = np.clip((half_width - distance) * np.float32(1 / 0.14), 0, 1)
    body = np.float32(0.60 * patient.density) * np.sqrt(depth)
    if patient.breast > 0:
        wall = np.float32(patient.lateral[chest.side])
        across = (distance - np.float32(0.62) * wall) / (np.float32(0.5) * wall)
        down = (y - np.float32(patient.base[chest.side] - 0.10)) / np.float32(0.17)
        body = body + np.float32(patient.breast) * ramp(1 - across**2 - down**2, 0.9)
    return np.asarray(body, dtype=np.float32)


def _air(chest: Hemithorax) -> FloatArray:
    """What the air of the lung takes away; the lung is deepest between its borders."""
    middle = (chest.medial + chest.lateral) * np.float32(0.5)
    half = np.maximum((chest.lateral - chest.medial) * np.float32(0.5), np.float32(0.01))
    across = (chest.distance - middle) / half
    depth = 1 - np.float32(0.35) * np.clip(across * across, 0, 1)
    return np.asarray(LUNG_DEPTH * chest.lung * depth, dtype=np.float32)


def rib_height(patient: Patient, chest: Hemithorax, number: float) -> FloatArray:
    """Height y of the middle of a posterior rib at each distance: float32 (1, n)."""
    across = chest.distance / np.float32(patient.lateral[chest.side])
    fall = np.float32(patient.rib_slope) * (across * across * across - np.float32(0.25) * across)
    return np.asarray(patient.apex[chest.side] - 0.02 + patient.rib_spacing * number + fall, dtype=np.float32)


def _ribs(patient: Patient, chest: Hemithorax) -> FloatArray:
    turn = np.float32(2 * np.pi / patient.rib_spacing)
    back = np.cos((chest.y - rib_height(patient, chest, 0.0)) * turn)
    across = chest.distance / np.float32(patient.lateral[chest.side])
    front_height = rib_height(patient, chest, 0.5) + np.float32(0.22) * (1 - across) ** 2
    front = np.cos((chest.y - front_height) * turn)
    wall = patient.lateral[chest.side] + 0.025
    cage = ramp(chest.lateral + 0.02 - chest.distance, 0.02) * ramp(chest.y - patient.apex[chest.side] + 0.03, 0.02)
    cage = cage * ramp(patient.base[chest.side] + 0.06 - chest.y, 0.12)
    # Bone is dense along its cortex: the edges of a rib are brighter than its middle.
    posterior = np.clip((back - 0.15) * 3, 0, 1) * (1 - np.float32(0.35) * np.clip((back - 0.75) * 4, 0, 1))
    anterior = np.clip((front - 0.35) * 2.5, 0, 1) * np.clip((across - 0.35) * 3, 0, 1)
    ribs = np.float32(0.085) * posterior + np.float32(0.04) * anterior
    rim = np.float32(0.07) * np.clip(1 - np.abs(chest.distance - chest.lateral - 0.012) / np.float32(0.012), 0, 1)
    return np.asarray((ribs + rim) * cage * (chest.distance < wall), dtype=np.float32)


def _clavicle(patient: Patient, chest: Hemithorax) -> FloatArray:
    across = chest.distance / np.float32(patient.lateral[chest.side])
    # An S that rises from the breastbone to the shoulder.
    middle = patient.apex[chest.side] + 0.085 - np.float32(0.095) * across - np.float32(0.016) * np.sin(across * 5.5)
    height = np.float32(0.013) + np.float32(0.006) * np.clip(1 - across * 4, 0, 1)
    off = np.abs(chest.y - middle)
    bone = ramp(height - off, 0.008) * (1 - np.float32(0.4) * ramp(height * np.float32(0.5) - off, 0.006))
    ends = ramp(chest.distance - 0.03, 0.012) * ramp(1.2 - across, 0.06)
    return np.asarray(np.float32(0.15) * bone * ends, dtype=np.float32)


def _shoulder_blade(patient: Patient, chest: Hemithorax) -> FloatArray:
    """A faint plate beside the upper ribs and the head of the upper arm."""
    across = chest.distance / np.float32(patient.lateral[chest.side])
    down = chest.y - patient.apex[chest.side]
    plate = ramp(across - 0.86 + np.float32(0.5) * (down - 0.14), 0.03) * ramp(down - 0.02, 0.02)
    plate = plate * ramp(0.34 - down - np.float32(0.9) * np.abs(across - 1.0), 0.03)
    head = ramp(1 - ((across - 1.32) / np.float32(0.17)) ** 2 - ((down - 0.03) / np.float32(0.06)) ** 2, 0.2)
    return np.asarray(np.float32(0.05) * plate + np.float32(0.12) * head, dtype=np.float32)


def _hilum(chest: Hemithorax) -> FloatArray:
    distance, y = hilum(chest)
    off = ((chest.distance - distance) / np.float32(0.05)) ** 2 + ((chest.y - y) / np.float32(0.08)) ** 2
    return np.asarray(np.float32(0.09) * np.clip(1 - off, 0, 1) * chest.lung, dtype=np.float32)
