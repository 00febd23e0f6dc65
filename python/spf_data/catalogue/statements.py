"""What is said of each image: a manifest's findings, read into the vocabulary."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from spf_data.catalogue.source_map import Reader, SourceRow, Unread
from spf_data.findings import Finding, Laterality, Polarity
from spf_data.manifest import Manifest
from spf_data.vocabulary import Vocabulary

Origin = Literal["all", "source", "reports"]

# How `Collector.add_report` marks what the report labeller read.
_REPORT = "report: "
_CHUNK = 100_000
_COLUMNS = ("level", "image", "study", "rule", *SourceRow._fields)


@dataclass(frozen=True)
class Statements:
    """What is said of the images of a manifest.

    Attributes:
        findings: The different findings (F,), without text spans.
        images: int64 (M,): row of the manifest, ascending.
        said: int64 (M,): index of a finding that is said of it; ascending within an image, none twice.
        cores: The findings that could have been said: of the others silence says nothing.
        unread: What stood for nothing in the vocabulary.
        levels: Rows by what they are said of, "image" or "study".
    """

    findings: tuple[Finding, ...]
    images: npt.NDArray[np.int64]
    said: npt.NDArray[np.int64]
    cores: frozenset[str]
    unread: Unread
    levels: Counter[str]

    @property
    def level(self) -> str:
        """What the findings are said of: "image", "study", or "image and study"."""
        return " and ".join(sorted(self.levels))


def read_statements(
    manifest: Manifest, table: pa.Table, reader: Reader, vocabulary: Vocabulary, origin: Origin = "all"
) -> Statements:
    """Read the findings of a manifest's images.

    Args:
        manifest: Its images; findings of others are left out.
        table: Findings (`spf_data.manifest.FINDING_SCHEMA`).
        reader: Reads the source's own words; what the report labeller wrote is in the vocabulary's words already.
        vocabulary: The vocabulary.
        origin: "source": the source's own labels; "reports": what the labeller read in the reports; "all": both.

    Raises:
        ValueError: If `origin` is none of these, a polarity or side is none, or no finding is left.
    """
    if origin not in get_args(Origin):
        raise ValueError(f"origin must be one of {get_args(Origin)}, got {origin!r}")
    rows_of = _rows_of(manifest)
    counts: Counter[tuple[bool, SourceRow]] = Counter()
    levels: Counter[str] = Counter()
    numbers: dict[tuple[bool, SourceRow], int] = {}
    chunks: list[npt.NDArray[np.int64]] = []
    for batch in table.select(_COLUMNS).to_batches(max_chunksize=_CHUNK):
        pairs: list[tuple[int, int]] = []
        for level, image, study, rule, *words in zip(*batch.to_pydict().values(), strict=True):
            from_report = rule.startswith(_REPORT)
            rows = rows_of.get((image, "") if image else ("", study), ())
            if not rows or origin == ("source" if from_report else "reports"):
                continue
            key = (from_report, SourceRow(*words))
            number = numbers.setdefault(key, len(numbers))
            counts[key] += 1
            levels[level] += 1
            pairs.extend((row, number) for row in rows)
        chunks.append(np.array(pairs, dtype=np.int64).reshape(-1, 2))
    unread = Unread()
    findings: dict[Finding, int] = {}
    read_as = [_read(key, counts[key], reader, vocabulary, unread, findings) for key in numbers]
    if not findings:
        raise ValueError(f"no finding of the manifest's images is in the vocabulary (origin {origin!r})")
    said = _expanded(np.concatenate(chunks), read_as)
    from_reports = any(from_report for from_report, _ in numbers)
    cores = frozenset(vocabulary.findings) if from_reports else reader.cores
    return Statements(tuple(findings), said[:, 0], said[:, 1], cores, unread, levels)


def _rows_of(manifest: Manifest) -> dict[tuple[str, str], list[int]]:
    """Rows of the manifest under (image, "") and under ("", study)."""
    rows_of: dict[tuple[str, str], list[int]] = {}
    for row, (image, study) in enumerate(zip(manifest.column("image"), manifest.column("study"), strict=True)):
        rows_of[image, ""] = [row]
        if study:
            rows_of.setdefault(("", study), []).append(row)
    return rows_of


def _read(
    key: tuple[bool, SourceRow],
    times: int,
    reader: Reader,
    vocabulary: Vocabulary,
    unread: Unread,
    findings: dict[Finding, int],
) -> list[int]:
    """Indices in `findings` of what a row stands for; new ones are added."""
    from_report, row = key
    read = _read_labelled(row, times, vocabulary, unread) if from_report else reader.read(row, times, unread)
    return [findings.setdefault(_bare(finding), len(findings)) for finding in read]


def _read_labelled(row: SourceRow, times: int, vocabulary: Vocabulary, unread: Unread) -> list[Finding]:
    term = vocabulary.findings.get(row.finding)
    if term is None:
        unread.findings[row.finding] += times
        return []
    places = [place for place in row.places if place in vocabulary.places]
    for place in row.places:
        if place not in vocabulary.places:
            unread.places[place] += times
    return [
        Finding(
            kind=term.kind,
            polarity=cast(Polarity, row.polarity),
            core=row.finding,
            anatomy=tuple(places),
            laterality=cast(Laterality, row.laterality),
        )
    ]


def _bare(finding: Finding) -> Finding:
    """A finding without what labels do not depend on, so that equal ones are one."""
    return Finding(finding.kind, finding.polarity, finding.core, finding.anatomy, finding.laterality)


def _expanded(pairs: npt.NDArray[np.int64], read_as: Sequence[Sequence[int]]) -> npt.NDArray[Any]:
    """(image, finding) for (image, row), sorted, none twice."""
    counts = np.array([len(indices) for indices in read_as])
    starts = np.cumsum(counts) - counts
    flat = np.array([index for indices in read_as for index in indices], dtype=np.int64)
    repeats = counts[pairs[:, 1]]
    images = np.repeat(pairs[:, 0], repeats)
    offsets = np.arange(len(images)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    said = flat[np.repeat(starts[pairs[:, 1]], repeats) + offsets]
    return np.unique(np.stack([images, said], axis=1), axis=0)
