"""Findings inside the lung."""

import numpy as np

from spf_data.phantom.anatomy import FloatArray, ramp
from spf_data.phantom.drawing import Canvas, Drawn, FindingSpec, between, ellipse, place
from spf_data.phantom.texture import field, hilum


def consolidation(canvas: Canvas, spec: FindingSpec) -> Drawn:
    """An ill-defined patch of filled lung."""
    reach = ellipse(canvas, place(canvas, spec), between(0.055, 0.105, spec.size), 0.5 * spec.stretch, spec.angle)
    patches = _texture(canvas, spec, 16, 5.0, 22.0)
    amount = ramp(1 - reach + np.float32(0.35) * patches, 1.1) * canvas.chest.lung
    return _opacity(canvas, amount, between(0.13, 0.27, spec.contrast) * (1 + np.float32(0.2) * patches))


def nodule(canvas: Canvas, spec: FindingSpec) -> Drawn:
    """A small round opacity."""
    return _lump(canvas, spec, between(0.014, 0.028, spec.size), 0.10, between(0.13, 0.26, spec.contrast))


def mass(canvas: Canvas, spec: FindingSpec) -> Drawn:
    """A large lobulated opacity with a definite border."""
    return _lump(canvas, spec, between(0.038, 0.065, spec.size), 0.18, between(0.15, 0.27, spec.contrast))


def calcified_granuloma(canvas: Canvas, spec: FindingSpec) -> Drawn:
    """A very small, very dense opacity."""
    return _lump(canvas, spec, between(0.008, 0.014, spec.size), 0.0, between(0.28, 0.45, spec.contrast))


def cavity(canvas: Canvas, spec: FindingSpec) -> Drawn:
    """A thick wall around air."""
    reach = ellipse(canvas, place(canvas, spec), between(0.035, 0.06, spec.size), 0.25 * spec.stretch, spec.angle)
    outside = ramp(1 - reach, 0.35) * canvas.chest.lung
    inside = ramp(between(0.30, 0.48, spec.stretch) - reach, 0.20)
    return _opacity(canvas, outside, between(0.16, 0.28, spec.contrast) * (1 - np.float32(1.15) * inside))


def bulla(canvas: Canvas, spec: FindingSpec) -> Drawn:
    """A thin-walled space of air without vessels."""
    reach = ellipse(canvas, place(canvas, spec), between(0.045, 0.075, spec.size), 0.3 * spec.stretch, spec.angle)
    inside = ramp(1 - reach, 0.25) * canvas.chest.lung
    wall = np.clip(1 - np.abs(reach - 0.95) * 5, 0, 1) * canvas.chest.lung
    strength = np.float32(between(0.06, 0.11, spec.contrast) * canvas.contrast_scale)
    return Drawn(inside > 0.5, strength * (wall - inside) - canvas.layers.vessels * inside)


def interstitial_opacity(canvas: Canvas, spec: FindingSpec) -> Drawn:
    """A net of fine lines over part of a lung."""
    reach = ellipse(canvas, place(canvas, spec), between(0.075, 0.125, spec.size), 0.3 * spec.stretch, np.pi / 2)
    amount = ramp(1 - reach, 0.9) * canvas.chest.lung
    net = 1 - np.minimum(np.abs(_texture(canvas, spec, 24, 14.0, 30.0)) * np.float32(1.6), 1)
    return _opacity(canvas, amount, between(0.12, 0.22, spec.contrast) * (np.float32(0.25) + net))


def basal_atelectasis(canvas: Canvas, spec: FindingSpec) -> Drawn:
    """Plate-like bands above the diaphragm."""
    chest = canvas.chest
    height = np.float32(0.010 + 0.012 * spec.size)
    top, bottom, inner, outer = chest.box
    lift = between(0.02, 0.05, spec.down)
    tilt = np.float32(0.35 * np.sin(spec.angle))
    middle = chest.diaphragm - lift + tilt * (chest.distance - between(inner, outer, 0.5))
    reach = between(0.07, 0.12, spec.size) * canvas.size_scale
    along = ramp(reach - np.abs(chest.distance - between(inner, outer, between(0.35, 0.65, spec.across))), 0.05)
    bands = ramp(height - np.abs(chest.y - middle), 0.01)
    if spec.stretch > 0.5:
        bands = np.maximum(bands, ramp(height - np.abs(chest.y - middle + 0.05), 0.01))
    haze = ramp(np.float32(0.06) - np.abs(chest.y - chest.diaphragm), 0.06)
    amount = (np.float32(0.7) * bands + np.float32(0.3) * haze) * along * chest.lung
    low = chest.y > between(top, bottom, 0.5)
    density = np.float32(between(0.15, 0.28, spec.contrast) * canvas.contrast_scale)
    return Drawn((bands * along * chest.lung > 0.5) & low, amount * low * density)


def hilar_enlargement(canvas: Canvas, spec: FindingSpec) -> Drawn:
    """A lobulated opacity at the hilum."""
    distance, y = hilum(canvas.chest)
    centre = (distance + 0.01 + 0.02 * spec.size, y + between(-0.02, 0.02, spec.down))
    reach = ellipse(canvas, centre, between(0.038, 0.058, spec.size), 0.4 * spec.stretch, np.pi / 2)
    lobes = _texture(canvas, spec, 10, 8.0, 20.0)
    amount = ramp(1 - reach + np.float32(0.25) * lobes, 0.5) * canvas.chest.lung
    return _opacity(canvas, amount, between(0.14, 0.24, spec.contrast))


def _lump(canvas: Canvas, spec: FindingSpec, radius: float, lobes: float, density: float) -> Drawn:
    reach = ellipse(canvas, place(canvas, spec), radius, 0.3 * spec.stretch, spec.angle)
    if lobes > 0:
        reach = reach + np.float32(lobes) * _texture(canvas, spec, 8, 8.0, 26.0)
    return _opacity(canvas, ramp(1 - reach, 0.5) * canvas.chest.lung, density)


def _opacity(canvas: Canvas, amount: FloatArray, density: FloatArray | float) -> Drawn:
    absorption = np.asarray(amount * density * np.float32(canvas.contrast_scale), dtype=np.float32)
    return Drawn(amount > 0.4, absorption)


def _texture(canvas: Canvas, spec: FindingSpec, waves: int, lowest: float, highest: float) -> FloatArray:
    random = np.random.default_rng(spec.seed)
    return field(random, canvas.chest.distance, canvas.chest.y, waves, lowest, highest)
