"""Random fields and vessels: the uneven parts of an image."""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from spf_data.phantom.anatomy import FloatArray, Hemithorax

_OVERSAMPLING = 2


def field(
    random: np.random.Generator, x: FloatArray, y: FloatArray, waves: int, lowest: float, highest: float
) -> FloatArray:
    """A smooth random field of mean 0 and standard deviation 1.

    Args:
        random: Source of the waves.
        x: float32 (1, n) horizontal coordinates.
        y: float32 (m, 1) vertical coordinates.
        waves: Number of plane waves that are added up.
        lowest: Lowest number of periods per unit of length.
        highest: Highest number of periods per unit of length.

    Returns:
        float32 (m, n).
    """
    frequency = random.uniform(lowest, highest, (waves, 1)).astype(np.float32) * np.float32(2 * np.pi)
    direction = random.uniform(0, 2 * np.pi, (waves, 1)).astype(np.float32)
    phase = random.uniform(0, 2 * np.pi, (waves, 1)).astype(np.float32)
    along_x = frequency * np.cos(direction) * x + phase
    along_y = frequency * np.sin(direction) * y.T
    # cos(a + b) as two outer products: one matrix product instead of one cosine a pixel and wave.
    left = np.concatenate([np.cos(along_y), -np.sin(along_y)])
    right = np.concatenate([np.cos(along_x), np.sin(along_x)])
    return np.asarray(left.T @ right * np.float32(np.sqrt(2 / waves)), dtype=np.float32)


def hilum(chest: Hemithorax) -> tuple[float, float]:
    """Distance and y of the hilum, where vessels and bronchi enter the lung."""
    top, bottom, inner, outer = chest.box
    return inner + 0.10 * (outer - inner), top + 0.47 * (bottom - top)


def vessels(chest: Hemithorax, random: np.random.Generator) -> FloatArray:
    """The branching vessels of one lung: float32 (H, n) in [0, 1], fading towards the wall."""
    height, width = len(chest.y), chest.distance.shape[1]
    trunks, twigs = _branches(chest, random)
    canvas = Image.new("L", (width * _OVERSAMPLING, height * _OVERSAMPLING))
    pen = ImageDraw.Draw(canvas)
    # Stroke widths are given for an image of 256 pixels.
    scale = height * _OVERSAMPLING / 256
    for paths, stroke in ((twigs, 1.2), (trunks[:, 4:], 1.6), (trunks[:, :5], 3.0)):
        # Lines of one pixel must fade on coarse grids, where they can not become thinner.
        brightness = round(255 * min(1.0, 0.30 + 0.35 * stroke * scale))
        for path in _to_pixels(chest, paths).tolist():
            pen.line(path, fill=brightness, width=max(1, round(stroke * scale)))
    drawn = np.asarray(canvas.reduce(_OVERSAMPLING), dtype=np.float32) * np.float32(1 / 255)
    distance, _ = hilum(chest)
    fade = 1 - np.float32(0.55) * np.clip((chest.distance - distance) / np.float32(chest.box[3] - distance), 0, 1)
    return np.asarray(drawn * fade, dtype=np.float32)


def _to_pixels(chest: Hemithorax, paths: FloatArray) -> FloatArray:
    """(branches, points, 2) of (distance, y) to rows (branches, 2 * points) of column, row, column, row, ..."""
    first = chest.distance[0, 0]
    columns = (paths[..., 0] - first) / (chest.distance[0, 1] - first) + np.float32(0.5)
    rows = (paths[..., 1] - chest.y[0, 0]) * len(chest.y) + np.float32(0.5)
    pixels = np.stack([columns, rows], axis=-1) * _OVERSAMPLING
    return np.asarray(pixels.reshape(len(paths), -1), dtype=np.float32)


def _branches(chest: Hemithorax, random: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Paths (branches, points, 2) of (distance, y): trunks that leave the hilum, and twigs that leave the trunks."""
    top, bottom, inner, outer = chest.box
    size = np.array([outer - inner, 0.5 * (bottom - top)])
    trunks, twigs = 8, 4
    angle = np.linspace(-1.35, 1.45, trunks) + random.uniform(-0.15, 0.15, trunks)
    trunk = np.array(hilum(chest)) + _curves(angle, random.uniform(0.6, 0.95, trunks), random) * size
    fork = random.integers(1, 7, (trunks, twigs))
    origin = np.take_along_axis(trunk, fork[..., None], axis=1).reshape(-1, 1, 2)
    # Twigs leave to either side in turn.
    turn = angle[:, None] + random.uniform(0.3, 0.9, (trunks, twigs)) * np.array([1, -1, 1, -1])
    span = (1 - fork / 10) * random.uniform(0.2, 0.5, (trunks, twigs))
    twig = origin + _curves(turn.ravel(), span.ravel(), random) * size
    return trunk.astype(np.float32), twig.astype(np.float32)


def _curves(angle: npt.NDArray[np.float64], length: npt.NDArray[np.float64], random: np.random.Generator) -> FloatArray:
    """Bent lines (lines, 7, 2) from the origin."""
    along = np.linspace(0, 1, 7)
    bend = random.uniform(-0.45, 0.45, len(angle))
    direction = angle[:, None] + bend[:, None] * (2 * along - 1)
    steps = np.stack([np.cos(direction), np.sin(direction)], axis=-1) * (length / len(along))[:, None, None]
    return np.asarray(np.cumsum(steps, axis=1) - steps[:, :1], dtype=np.float32)
