"""The results as Markdown."""

import os
import platform
from collections.abc import Sequence

import torch

import spf_kernels
from bench.evidence.quality import Quality
from bench.evidence.timing import OURS, Sizes, Timing
from bench.machine import cpu_model
from bench.markdown import table
from spf_kernels.selection import select

_TIMING_NOTES = """From maps to an explanation of every label; the extractor, the same for all, is not in it. Weights
are frozen, no decoder runs. Explanations in turn, round after round; ratios are medians of those within a round.

* **evidence**: `Head.evidence`, the classifier's gated rows through the decode kernel.
* **HiResCAM, Grad-CAM**: one forward, then a backward a label. Or as many labels a backward as the evidence takes at a
  time: "vmap" (`is_grads_batched`), which calls our kernels label by label and makes one product of each nn.Linear;
  "copies" of the maps, one a label, in one batch forward and backward. By our kernels where nothing else is said.
  HiResCAM is the same explanation: "differs by" is the norm of the difference over the norm.
* **occlusion**: windows painted with each map's mean, at most 64 occluded images a forward.
"""
_QUALITY_NOTES = """The demo's spf network (`python/configs/demo.yaml`: phantom of 64x64 pixels, 32 maps of 16x16,
codes of 16), trained briefly; test images with findings, every present label. The pointing game counts a maximum whose
map pixel touches the finding's mask; chance is that of a map pixel drawn at random; the interval is of patients
resampled. Deletion: map pixels are set to 0 from the highest score down; the mean of the logit meanwhile, lower is
better. Both occlusions have windows of a quarter of the image's side, a map pixel apart. The last row looks at no
label.
"""


def page(
    timings: Sequence[tuple[Sizes, int, dict[str, Timing]]], qualities: Sequence[Quality], is_quick: bool = False
) -> str:
    """The whole page.

    Args:
        timings: Sizes, number of rounds and what was measured.
        qualities: By network.
        is_quick: Whether the sizes were tiny.
    """
    parts = [
        "# Evidence beside other explanations\n",
        f"Written by `python -m bench.evidence{' --quick' if is_quick else ''}`.\n",
        _machine(),
        "## Time\n",
        _TIMING_NOTES,
    ]
    for sizes, rounds, timing in timings:
        parts += [f"### {_title(sizes)}\n", _timing_table(timing), _timing_line(sizes, rounds)]
    parts += ["## Where it points\n", _QUALITY_NOTES]
    for quality in qualities:
        parts += [f"### {_codes(quality)}\n", _quality_line(quality), _quality_table(quality), _checks_line(quality)]
    return "\n".join(parts)


def _machine() -> str:
    facts = [
        ("processor", f"{cpu_model()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads used"),
        ("torch, Python", f"{torch.__version__}, {platform.python_version()}"),
        ("spf_kernels", f"{spf_kernels.__version__}, backend {select(torch.device('cpu'), torch.float32).NAME}"),
        ("load average at the end", f"{os.getloadavg()[0]:.2f}"),
    ]
    return table(("", ""), facts)


def _title(sizes: Sizes) -> str:
    images = "1 image" if sizes.batch == 1 else f"{sizes.batch} images"
    return (
        f"{images}, {sizes.num_maps} maps of {sizes.side}x{sizes.side}, ReLU codes of {sizes.code_size}, "
        f"{sizes.labels} labels"
    )


def _timing_table(timing: dict[str, Timing]) -> str:
    rows = []
    for name in sorted(timing, key=lambda name: timing[name].seconds):
        found = timing[name]
        error = "–" if found.error is None or name == OURS else f"{found.error:.1e}"
        label = f"**{name}**" if name == OURS else name
        rows.append(
            [label, _milliseconds(found.seconds), _milliseconds(found.least), f"{found.ours_is_faster_by:.2f}x", error]
        )
    return table(("explanation", "median ms", "least ms", "ours is faster by", "differs by"), rows)


def _milliseconds(seconds: float) -> str:
    """Three significant digits, plainly."""
    value = seconds * 1e3
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _timing_line(sizes: Sizes, rounds: int) -> str:
    return f"{rounds} rounds; windows of {sizes.window}x{sizes.window} every {sizes.window // 2} map pixels.\n"


def _codes(quality: Quality) -> str:
    activation = quality.config.head.activation
    return "Linear codes" if activation is None else f"Codes with {activation}"


def _quality_line(quality: Quality) -> str:
    chance = quality.explained[OURS].pointing.chance
    return (
        f"{quality.epochs} epochs, macro AUROC {quality.auroc:.3f}; {quality.images} images, {quality.pairs} labels. "
        f"Chance: {chance:.3f}. Deletion in random order: {quality.random_area:.2f}.\n"
    )


def _quality_table(quality: Quality) -> str:
    rows = []
    for name, explained in quality.explained.items():
        rate = explained.pointing.hit_rate
        label = f"**{name}**" if name == OURS else name
        rows.append([label, f"{rate.value:.3f}", f"{rate.low:.3f} to {rate.high:.3f}", f"{explained.area:.2f}"])
    return table(("explanation", "hit rate", "95 % interval", "deletion"), rows)


def _checks_line(quality: Quality) -> str:
    return (
        f"Of the evidence: bias share {quality.bias_share:.3f} and cancellation {quality.cancellation:.2f} (medians); "
        f"rank correlation with the evidence of random weights {quality.signed_correlation:+.3f}, of the absolute "
        f"values {quality.absolute_correlation:+.3f} (means).\n"
    )
