"""Pictures for people: heads compared label by label, and example images."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from spf_data.dataset import XrayDataset
from spf_data.labels import LabelSet

from spf_net.ranking import FloatArray

# Okabe and Ito's colours, told apart by colour-blind readers as well.
_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P")


def plot_label_auroc(aurocs: Mapping[str, FloatArray], label_set: LabelSet, path: Path) -> None:
    """A dot for each head and label, labels sorted by the first head's AUROC; undefined values have no dot.

    Args:
        aurocs: By the name of the head, float64 (L,).
        label_set: L labels.
        path: Image file to write.
    """
    order = np.argsort(np.nan_to_num(next(iter(aurocs.values())), nan=-1.0))
    figure = Figure(figsize=(8, 1.5 + 0.19 * len(label_set)), layout="constrained")
    axes = figure.add_subplot()
    for number, (name, values) in enumerate(aurocs.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        # From the seventh head on, each colour comes with another marker.
        marker = _MARKERS[(number + number // len(_COLOURS)) % len(_MARKERS)]
        label = f"{name} (mean {np.nanmean(values):.3f})"
        axes.plot(values[order], np.arange(len(order)), marker, color=colour, label=label, markersize=5, alpha=0.85)
    axes.axvline(0.5, color="black", linewidth=1, linestyle=":")
    axes.set_yticks(np.arange(len(order)), [label_set.names[index] for index in order], fontsize=8)
    axes.set_ylim(-1, len(order))
    axes.grid(axis="both", alpha=0.25)
    axes.set_xlabel("AUROC on the test part (0.5 is chance)")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    figure.savefig(path, dpi=150)


def plot_examples(dataset: XrayDataset, rows: Sequence[int], path: Path) -> None:
    """The first channel of some images, with the labels that are present below each.

    Args:
        dataset: Images.
        rows: Which of them, in rows of four.
        path: Image file to write.
    """
    lines = -(-len(rows) // 4)
    figure = Figure(figsize=(12, 3.9 * lines), layout="constrained")
    all_axes = list(figure.subplots(lines, 4, squeeze=False).flat)
    for axes in all_axes[len(rows) :]:
        axes.set_axis_off()
    for axes, row in zip(all_axes, rows, strict=False):
        sample = dataset[row]
        present = [name for name, value in zip(dataset.label_set.names, sample["labels"], strict=True) if value == 1]
        axes.imshow(sample["image"][0].numpy(), cmap="gray", vmin=0, vmax=1)
        axes.set_xlabel("\n".join(present), fontsize=8)
        axes.set(xticks=[], yticks=[], frame_on=False)
    figure.suptitle("The patient's right is on the image's left")
    figure.savefig(path, dpi=120, bbox_inches="tight")
