"""Which findings an image has. Drawn before anything is painted, so that a finding can be moved to the other side."""

import numpy as np

from spf_data.phantom.catalogue import FINDINGS, ZONES, Finding
from spf_data.phantom.drawing import FindingSpec


def sample_findings(random: np.random.Generator, *, translated: bool) -> tuple[FindingSpec, ...]:
    """Draw the findings of one image.

    Args:
        random: Source of everything.
        translated: Leave out the findings without a side.
    """
    chance = random.random(len(FINDINGS))
    specs: list[FindingSpec] = []
    for finding, drawn in zip(FINDINGS, chance, strict=True):
        for side in _sides(finding, float(drawn)):
            if finding.sided or not translated:
                specs += [_spec(random, finding, side) for _ in range(_count(random, finding))]
    return tuple(specs)


def _sides(finding: Finding, drawn: float) -> tuple[int, ...]:
    if drawn < finding.both_sides:
        return (0, 1) if finding.sided else (0,)
    if drawn < finding.both_sides + finding.one_side:
        return (0,)
    if drawn < finding.both_sides + 2 * finding.one_side:
        return (1,)
    return ()


def _count(random: np.random.Generator, finding: Finding) -> int:
    """Nodules and granulomas often come in groups."""
    if finding.name in ("nodule", "calcified granuloma"):
        return int(random.integers(1, 4))
    return 1


def _spec(random: np.random.Generator, finding: Finding, side: int) -> FindingSpec:
    across, within_zone, size, stretch, contrast = random.random(5)
    zone = 0 if finding.name == "bulla" else int(random.integers(len(ZONES)))
    down = (zone + 0.1 + 0.8 * within_zone) / len(ZONES)
    return FindingSpec(
        name=finding.name,
        side=side,
        across=0.15 + 0.75 * across,
        down=down,
        size=size,
        stretch=stretch,
        angle=float(random.uniform(0, np.pi)),
        contrast=contrast,
        seed=int(random.integers(2**31)),
    )
