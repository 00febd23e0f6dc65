"""The paper's Figures 1, 2 and 4 on data that anybody can have."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.special import expit
from spf_data.dataset import XrayDataset

from spf_net.checkpoint import write_atomically
from spf_net.fitting import FrozenMapsNetwork, LabelledMaps, Rows, scores
from spf_net.metrics import youden_thresholds
from spf_net.ranking import FloatArray

FloatImage = npt.NDArray[np.float32]

_TOY_SIDE = 8
_LISTED = 8
_CALLED_RIGHTLY, _CALLED_WRONGLY, _MISSED = "#006B4F", "#B34700", "#595959"


def draw_flattening(path: Path) -> None:
    """Figure 1: two small pictures, and the vectors that plain flattening makes of them.

    What is lost is which entries are neighbours: the vector's order is fixed, so that entry k is always the same pixel,
    and a dense layer after it still knows where things are.
    """
    one = np.zeros((_TOY_SIDE, _TOY_SIDE), dtype=np.float32)
    one[1:7, 4] = one[2, 3] = one[3, 2] = one[6, 3:6] = 1
    column = np.zeros_like(one)
    column[:, 3] = np.linspace(0.2, 1, _TOY_SIDE)
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=(1, 4))
    titles = (("(a) the digit 1", "(b) flattened row by row"), ("(c) a brightening column", "(d) flattened"))
    for row, (picture, (left, right)) in enumerate(zip((one, column), titles, strict=True)):
        _picture(figure.add_subplot(grid[row, 0]), picture, left)
        _picture(figure.add_subplot(grid[row, 1]), picture.reshape(1, -1).repeat(6, axis=0), right)
    figure.suptitle("What plain flattening does to neighbours (after the SPF paper's Figure 1)")
    _save(figure, path)


def draw_codes(image: FloatImage, maps: FloatImage, codes: FloatImage, path: Path) -> None:
    """Figure 2: an image, its feature maps, their codes, and what plain flattening and average pooling make of them.

    Args:
        image: (H, W) in [0, 1].
        maps: (C, h, w), what the head sees.
        codes: (C, D).
        path: Image file to write.
    """
    figure = Figure(figsize=(12, 8), layout="constrained")
    grid = figure.add_gridspec(2, 3, height_ratios=(3, 2))
    _picture(figure.add_subplot(grid[0, 0]), image, "(a) image", limits=(0, 1))
    _picture(figure.add_subplot(grid[0, 1]), _mosaic(maps), f"(b) {len(maps)} maps of {maps.shape[1]}x{maps.shape[2]}")
    title = f"(c) SPF: {codes.shape[1]} numbers a map, a row a map"
    _picture(figure.add_subplot(grid[0, 2]), codes, title, aspect="auto")
    flat = maps.reshape(len(maps), -1)
    title = f"(d) plain flattening: {flat.size:,} numbers, a row a map"
    _picture(figure.add_subplot(grid[1, :2]), flat, title, aspect="auto")
    title = f"(e) average pooling: {len(maps)} numbers"
    _picture(figure.add_subplot(grid[1, 2]), flat.mean(axis=1, keepdims=True), title, aspect="auto")
    _save(figure, path)


def draw_predictions(
    dataset: XrayDataset, rows: Sequence[int], logits: FloatArray, thresholds: FloatArray, path: Path
) -> None:
    """Figure 4: images, with the labels that are called or missed below each.

    Args:
        dataset: Images.
        rows: Which of them, at most four in a line.
        logits: (K, L) of these images.
        thresholds: (L,), a label is called from its threshold on; NaN, for a label that has none, is never called.
        path: Image file to write.

    Raises:
        ValueError: If there are no rows, or not as many logits.
    """
    if not rows or logits.shape != (len(rows), len(dataset.label_set)):
        raise ValueError(
            f"logits must be ({len(rows)}, {len(dataset.label_set)}) of one row or more, got {logits.shape}"
        )
    columns = min(4, len(rows))
    lines = -(-len(rows) // columns)
    figure = Figure(figsize=(3.6 * columns, 5.2 * lines), layout="constrained")
    all_axes = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axes in all_axes[len(rows) :]:
        axes.set_axis_off()
    for axes, row, scored in zip(all_axes, rows, logits, strict=False):
        _picture(axes, dataset[row]["image"][0].numpy(), "", limits=(0, 1))
        listed = _verdicts(dataset, row, scored, thresholds)
        for line, (text, colour) in enumerate(listed):
            position = (0, -0.03 - 0.065 * line)
            axes.text(*position, text, color=colour, fontsize=8, transform=axes.transAxes, va="top")
        # The layout must leave room for text that lies outside the axes.
        axes.set_xlabel("\n" * (_LISTED + 3), fontsize=8)
    figure.suptitle("✓ called and present    ✗ called, not present    – present, not called", fontsize=10)
    _save(figure, path)


def draw_study(
    dataset: XrayDataset, data: LabelledMaps, network: FrozenMapsNetwork, validation: Rows, test: Rows, folder: Path
) -> None:
    """All three figures.

    Args:
        dataset: Images and labels.
        data: Their maps.
        network: Fitted, with an spf head.
        validation: Rows that the operating points are chosen on.
        test: Rows that examples are taken from: those with most labels.
        folder: Where figure-1.png, figure-2.png and figure-4.png go.

    Raises:
        OSError: If a file can not be written.
    """
    draw_flattening(folder / "figure-1.png")
    present = (dataset.labels[test] == 1).sum(1).numpy()
    rows = test[np.argsort(-present, kind="stable")[:4]]
    with torch.no_grad():
        maps = network.maps(data.batch(torch.from_numpy(rows[:1]))[0])
        codes = network.head.flatten_maps(maps)[0].unflatten(0, (network.head.num_maps, -1))
    draw_codes(dataset[int(rows[0])]["image"][0].numpy(), maps[0].numpy(), codes.numpy(), folder / "figure-2.png")
    thresholds = youden_thresholds(scores(network, data, validation), dataset.labels[validation].numpy())
    logits = scores(network, data, rows).astype(np.float64)
    draw_predictions(dataset, rows.tolist(), logits, thresholds, folder / "figure-4.png")


def _verdicts(dataset: XrayDataset, row: int, logits: FloatArray, thresholds: FloatArray) -> list[tuple[str, str]]:
    """Text and colour of the labels of an image: all that are present, then false calls, the most probable first."""
    truth = dataset.labels[row].numpy()
    called = logits >= np.nan_to_num(thresholds, nan=np.inf)
    order = np.argsort(-logits, kind="stable")
    listed = []
    for mark, colour, chosen in (
        ("✓", _CALLED_RIGHTLY, called & (truth == 1)),
        ("–", _MISSED, ~called & (truth == 1)),
        ("✗", _CALLED_WRONGLY, called & (truth != 1)),
    ):
        names = [dataset.label_set.names[index] for index in order if chosen[index]]
        probabilities = [expit(logits[index]) for index in order if chosen[index]]
        listed += [(f"{mark} {name} {value:.2f}", colour) for name, value in zip(names, probabilities, strict=True)]
    hidden = len(listed) - _LISTED
    return listed if hidden <= 0 else [*listed[:_LISTED], (f"and {hidden} more", _MISSED)]


def _mosaic(maps: FloatImage) -> FloatImage:
    """Maps (C, h, w) side by side with a margin between them, each scaled by its own largest value."""
    count, height, width = maps.shape
    columns = int(np.ceil(np.sqrt(count)))
    lines = -(-count // columns)
    mosaic = np.full((lines * (height + 1), columns * (width + 1)), np.nan, dtype=np.float32)
    for index, each in enumerate(maps):
        top, left = index // columns * (height + 1), index % columns * (width + 1)
        mosaic[top : top + height, left : left + width] = each / max(float(np.abs(each).max()), 1e-12)
    return mosaic


def _picture(
    axes: Axes,
    picture: FloatImage,
    title: str,
    limits: tuple[float, float] | tuple[None, None] = (None, None),
    aspect: Literal["equal", "auto"] = "equal",
) -> None:
    axes.imshow(picture, cmap="gray", vmin=limits[0], vmax=limits[1], aspect=aspect, interpolation="nearest")
    axes.set_title(title, fontsize=9)
    axes.set(xticks=[], yticks=[])


def _save(figure: Figure, path: Path) -> None:
    buffer = io.BytesIO()
    # Without the date the same picture is the same file.
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    write_atomically(path, buffer.getvalue())
