"""Findings of the pleura, the diaphragm and the chest wall."""

import numpy as np

from spf_data.phantom.anatomy import FloatArray, hemithorax, ramp
from spf_data.phantom.drawing import Canvas, Drawn, FindingSpec, between, ellipse
from spf_data.phantom.texture import field
from spf_data.phantom.tissue import LUNG_DEPTH, rib_height


def pleural_effusion(canvas: Canvas, spec: FindingSpec) -> Drawn:
    """Fluid at the bottom, climbing along the chest wall."""
    chest = canvas.chest
    top, bottom, inner, outer = chest.box
    height = between(0.13, 0.40, spec.size**1.5) * (bottom - top) * canvas.size_scale
    across = np.clip((chest.distance - inner) / np.float32(outer - inner), 0, 1)
    surface = bottom - height * (np.float32(0.62) + np.float32(0.38) * across * across)
    amount = ramp(chest.y - surface, between(0.02, 0.05, spec.stretch)) * chest.lung
    density = np.float32(between(0.62, 0.95, spec.contrast)) * LUNG_DEPTH * np.float32(canvas.contrast_scale)
    return Drawn(amount > 0.5, amount * density)


def apical_pneumothorax(canvas: Canvas, spec: FindingSpec) -> Drawn:
    """Air outside the lung at its top: a fine pleural line, and no vessels beyond it."""
    chest = canvas.chest
    top, bottom = chest.box[:2]
    depth = between(0.04, 0.085, spec.size) * canvas.size_scale
    end = top + between(0.28, 0.40, spec.stretch) * (bottom - top)
    fade = np.clip((end - chest.y) / np.float32(end - top), 0, 1)
    return _free_air(canvas, spec, np.asarray(depth * fade**0.7), top + depth)


def pneumothorax(canvas: Canvas, spec: FindingSpec) -> Drawn:
    """Air outside the lung at its bottom, in a deep costophrenic sulcus."""
    chest = canvas.chest
    top, bottom = chest.box[:2]
    depth = between(0.045, 0.09, spec.size) * canvas.size_scale
    start = top + between(0.55, 0.66, spec.stretch) * (bottom - top)
    grow = np.clip((chest.y - start) / np.float32(0.10), 0, 1)
    return _free_air(canvas, spec, np.asarray(depth * grow**0.7), top)


def _free_air(canvas: Canvas, spec: FindingSpec, depth: FloatArray, lung_top: float) -> Drawn:
    """Air between the chest wall and a lung that has come off it by `depth` (H, 1) and sunk to `lung_top`."""
    chest = canvas.chest
    off_wall = chest.lateral - depth - chest.distance
    off_top = chest.y - np.float32(lung_top)
    away = np.minimum(off_wall, off_top)
    air = (1 - ramp(away, chest.edge)) * chest.lung * (depth > 0)
    line = np.clip(1 - np.abs(away) / np.float32(max(0.006, chest.edge)), 0, 1) * chest.lung * (depth > 0)
    strength = np.float32(between(0.06, 0.12, spec.contrast) * canvas.contrast_scale)
    absorption = strength * (line - air) - canvas.layers.vessels * air
    return Drawn(air > 0.5, np.asarray(absorption, dtype=np.float32))


def apical_pleural_thickening(canvas: Canvas, spec: FindingSpec) -> Drawn:
    """A dense cap on the top of the lung."""
    chest = canvas.chest
    depth = np.float32(between(0.022, 0.04, spec.size) * canvas.size_scale)
    top, bottom = chest.box[:2]
    end = np.float32(between(top, bottom, between(0.20, 0.30, spec.stretch)))
    uneven = np.float32(0.006) * field(np.random.default_rng(spec.seed), chest.distance, chest.y, 8, 8.0, 20.0)
    away = np.minimum(chest.lateral - depth - chest.distance, chest.y - top - depth) + uneven
    cap = (1 - ramp(away, 0.012)) * chest.lung * ramp(end - chest.y, 0.04)
    density = np.float32(between(0.14, 0.24, spec.contrast) * canvas.contrast_scale)
    return Drawn(cap > 0.5, np.asarray(cap * density, dtype=np.float32))


def elevated_hemidiaphragm(canvas: Canvas, spec: FindingSpec) -> Drawn:  # noqa: ARG001
    """What the raised diaphragm has taken from the lung; the anatomy is painted raised already."""
    chest = canvas.chest
    healthy = hemithorax(canvas.healthy, chest.side, chest.columns, chest.distance, chest.y)
    return Drawn((healthy.lung > 0.5) & (chest.lung <= 0.5), np.zeros_like(chest.lung))


def rib_fracture(canvas: Canvas, spec: FindingSpec) -> Drawn:
    """A gap in a rib with callus around it."""
    chest = canvas.chest
    number = 3 + int(spec.down * 5)
    column = int(np.argmin(np.abs(chest.distance[0] - chest.box[3] * between(0.72, 0.97, spec.across))))
    centre = (float(chest.distance[0, column]), float(rib_height(canvas.patient, chest, number)[0, column]))
    callus = ellipse(canvas, centre, between(0.016, 0.024, spec.size), 0.2, 0.6)
    gap = ellipse(canvas, centre, between(0.010, 0.013, spec.size), 0.8, np.pi / 2 + 0.6)
    strength = np.float32(between(0.16, 0.26, spec.contrast) * canvas.contrast_scale)
    amount = ramp(1 - callus, 0.5) - np.float32(1.6) * ramp(1 - gap, 0.5)
    return Drawn(callus < 1, np.asarray(strength * amount, dtype=np.float32))


def subcutaneous_emphysema(canvas: Canvas, spec: FindingSpec) -> Drawn:
    """Streaks of air in the soft tissue of the chest wall."""
    chest = canvas.chest
    top, bottom = chest.box[:2]
    middle = between(top, bottom, between(0.25, 0.6, spec.down))
    reach = np.float32(between(0.10, 0.17, spec.size) * canvas.size_scale)
    outside = chest.distance - chest.lateral - np.float32(0.015)
    region = ramp(outside, 0.01) * ramp(0.055 - outside, 0.02) * ramp(reach - np.abs(chest.y - middle), 0.05)
    streaks = field(np.random.default_rng(spec.seed), 3 * chest.distance, chest.y, 16, 8.0, 16.0)
    strength = np.float32(between(0.12, 0.22, spec.contrast) * canvas.contrast_scale)
    amount = region * np.clip(np.float32(0.5) + np.float32(0.6) * streaks, 0, 1)
    return Drawn(region > 0.5, np.asarray(-strength * amount, dtype=np.float32))
