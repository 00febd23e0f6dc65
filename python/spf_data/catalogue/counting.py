"""Every finding in every place that is said to be there, with its images, studies and patients."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spf_data.catalogue.places import Combination, Rules
from spf_data.catalogue.statements import Statements
from spf_data.manifest import Manifest


@dataclass(frozen=True)
class Count:
    """How often something was said to be there."""

    images: int
    studies: int
    patients: int


def count_combinations(manifest: Manifest, statements: Statements, rules: Rules) -> dict[Combination, Count]:
    """The combinations that are said to be there, as they are said: a bilateral finding counts for neither side.

    A finding counts for its side (or "" where none is named) and, once more, for each of its regions there.

    Returns:
        The most frequent first; among equals by name.
    """
    combinations: dict[Combination, list[int]] = {}
    for index, finding in enumerate(statements.findings):
        if finding.polarity == "yes":
            regions = {region for chain in rules.regions_of(finding) for region in chain}
            for region in {"", *regions}:
                place = Combination(finding.core, finding.laterality, region)
                combinations.setdefault(place, []).append(index)
    order = np.argsort(statements.said, kind="stable")
    images = statements.images[order]
    starts = np.searchsorted(statements.said[order], np.arange(len(statements.findings) + 1))
    count = RowCounter(manifest)
    counts = {
        place: count.of(np.concatenate([images[starts[index] : starts[index + 1]] for index in indices]))
        for place, indices in combinations.items()
    }
    return dict(sorted(counts.items(), key=lambda item: (-item[1].images, item[0])))


class RowCounter:
    """Counts the images, studies and patients among rows of a manifest; an image without a study is one of its own."""

    def __init__(self, manifest: Manifest) -> None:
        images = manifest.column("image")
        studies = [study or image for study, image in zip(manifest.column("study"), images, strict=True)]
        self._studies = _numbered(studies)
        self._patients = _numbered(manifest.column("patient"))

    def of(self, rows: npt.NDArray[np.int64]) -> Count:
        """The count of some rows, which may occur more than once."""
        rows = np.unique(rows)
        return Count(len(rows), len(np.unique(self._studies[rows])), len(np.unique(self._patients[rows])))


def _numbered(names: Sequence[str]) -> npt.NDArray[np.int64]:
    return np.unique(np.array(names, dtype=str), return_inverse=True)[1]
