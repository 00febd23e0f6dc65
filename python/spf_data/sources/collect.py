"""From what an adapter reads to a manifest: checks, duplicates, conflicts, split, and the count of each."""

import hashlib
import hmac
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from spf_data.findings import Finding
from spf_data.manifest import BASE_SCHEMA, BOX_SCHEMA, FINDING_SCHEMA, LABEL_PREFIX, Manifest, stays_inside
from spf_data.sources.licences import LICENCES
from spf_data.sources.options import PrepareOptions
from spf_data.sources.paths import PathError, check_inside
from spf_data.sources.report import PrepareReport, Where
from spf_data.splits import grouped_split, own_split, part_of_rows, split_hash

# "frontal": AP or PA, the source does not say which.
FRONTAL_VIEWS = ("PA", "AP", "AP supine", "frontal")
_CHUNK = 100_000


@dataclass(frozen=True)
class ImageRecord:
    """One image as an adapter read it.

    Attributes:
        where: Row number, or name of the document, that it was read from.
        image: Path relative to the root.
        patient: The source's identifier.
        study: The source's identifier; "" where there is none.
        view: One of `FRONTAL_VIEWS`, "lateral", another word of the source, or "" where it is not known.
        labels: By name: 1, 0, or None (not known).
        complete: Whether a label that is not in `labels` is absent (else: not known).
        part: Part of the data set's own split; "" where there is none.
        age: In years.
        sex: "F", "M" or "".
        part_of_source: Which collection within the source the image is from; "" where it is one.
    """

    where: Where
    image: str
    patient: str
    study: str
    view: str
    labels: dict[str, int | None] = field(default_factory=dict)
    complete: bool = True
    part: str = ""
    age: float | None = None
    sex: str = ""
    part_of_source: str = ""


@dataclass(frozen=True)
class FindingRecord:
    """One finding with its place, in the source's own words.

    Attributes:
        level: "image" or "study": what the source says it of.
        image: Path of the image; "" for a finding of the study.
        study: Identifier of the study.
        finding: What is seen.
        polarity: "yes", "no" or "uncertain".
        anatomy: Where.
        laterality: "left", "right", "bilateral" or "".
        modifiers: Severity and other adjectives.
        span: First character of the report, and the one after the last; None where it came from no text.
        rule: What it was read from.
        kind: "finding", "disease", "device" or "technical"; "" where the source does not say.
    """

    level: str
    image: str
    study: str
    finding: str
    polarity: str = "yes"
    anatomy: tuple[str, ...] = ()
    laterality: str = ""
    modifiers: tuple[str, ...] = ()
    span: tuple[int, int] | None = None
    rule: str = ""
    kind: str = ""

    def as_row(self) -> tuple[Any, ...]:
        """In the order of `FINDING_SCHEMA`."""
        span = self.span or (None, None)
        texts = ("|".join(self.anatomy), self.laterality, "|".join(self.modifiers))
        return (self.level, self.image, self.study, self.kind, self.finding, self.polarity, *texts, *span, self.rule)


@dataclass(frozen=True)
class Prepared:
    """What `prepare` makes of a data set.

    Attributes:
        manifest: Its images.
        findings: Findings with their places (`FINDING_SCHEMA`), of the images in the manifest.
        boxes: Boxes (`BOX_SCHEMA`), of the images in the manifest.
        report: What was read, kept and dropped, and why.
    """

    manifest: Manifest
    findings: pa.Table
    boxes: pa.Table
    report: PrepareReport


class RowBuffer:
    """Rows that are packed into Arrow's columns every 100,000, so that millions fit into memory."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._rows: list[tuple[Any, ...]] = []
        self._batches: list[pa.RecordBatch] = []

    def add(self, row: tuple[Any, ...]) -> None:
        """Add a row; its values are in the schema's order."""
        self._rows.append(row)
        if len(self._rows) >= _CHUNK:
            self._pack()

    def table(self) -> pa.Table:
        """All rows."""
        self._pack()
        return pa.Table.from_batches(self._batches, self._schema)

    def _pack(self) -> None:
        if self._rows:
            columns = zip(*self._rows, strict=True)
            arrays = [pa.array(values, kind.type) for values, kind in zip(columns, self._schema, strict=True)]
            self._batches.append(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
            self._rows = []


class Collector:
    """Takes images, findings and boxes from an adapter and makes the manifest of what may be kept."""

    def __init__(self, source: str, options: PrepareOptions, patients_of: str = "") -> None:
        """Start a manifest.

        Args:
            source: Name of the source, a key of `LICENCES`.
            options: What the adapter was told.
            patients_of: The source whose patients these are, if it is another one. Box sets share the names, and so the
                split, of the data set that they annotate.

        Raises:
            FileNotFoundError: If the root is not a folder.
        """
        if not options.root.is_dir():
            raise FileNotFoundError(f"{options.root} is not a folder; root must be that of the images")
        self.report = PrepareReport()
        self._source = source
        self._patients_of = patients_of or source
        self._options = options
        self._root: Path = options.root.resolve()
        self._records: dict[str, ImageRecord] = {}
        self._two_patients: set[str] = set()
        self._findings = RowBuffer(FINDING_SCHEMA)
        self._boxes = RowBuffer(BOX_SCHEMA)

    def drop(self, reason: str, where: Where) -> None:
        """Count an image that the adapter itself leaves out."""
        self.report.read += 1
        self.report.drop(reason, where)

    def add(self, record: ImageRecord) -> bool:
        """Take an image, or count why not; True if its findings and boxes are wanted."""
        self.report.read += 1
        reason = self._unusable(record)
        if reason:
            self.report.drop(reason, record.where)
            return False
        earlier = self._records.get(record.image)
        if earlier is None:
            self._records[record.image] = record
            return True
        return self._merge(earlier, record)

    def add_finding(self, finding: FindingRecord) -> None:
        """Take a finding of an image or study; it is dropped with the image, or the last image of the study."""
        self._findings.add(finding.as_row())

    def add_report(self, study: str, findings: Iterable[Finding]) -> None:
        """Take the findings that a report labeller read from the report of a study."""
        for found in findings:
            self.add_finding(
                FindingRecord(
                    level="study",
                    image="",
                    study=study,
                    kind=found.kind,
                    finding=found.core,
                    polarity=found.polarity,
                    anatomy=found.anatomy,
                    laterality=found.laterality,
                    modifiers=(found.severity,) if found.severity else (),
                    span=found.span,
                    rule=f"report: {found.rule}",
                )
            )

    def add_box(
        self, image: str, kind: str, finding: str, laterality: str, frame: str, box: tuple[float, float, float, float]
    ) -> None:
        """Take a box; clip it to the image, and leave out, counted, what has no area there.

        Args:
            image: Path of the image.
            kind: "finding", or "region" of anatomy.
            finding: Name of either.
            laterality: "left", "right", "bilateral" or "".
            frame: "image": fractions of the image's width and height; "square": of the image zero-padded to a square.
            box: Left, top, width and height, as fractions.
        """
        x, y, w, h = box
        if not all(np.isfinite(box)):
            self.report.notice("box left out: not four finite numbers")
            return
        left, top, right, bottom = max(x, 0.0), max(y, 0.0), min(x + w, 1.0), min(y + h, 1.0)
        if w <= 0 or h <= 0 or left >= right or top >= bottom:
            self.report.notice("box left out: no area within the image")
            return
        # Coordinates that were rounded to pixels may lie a rounding error outside.
        if min(x, y, 1 - (x + w), 1 - (y + h)) < -1e-6:
            self.report.notice("box clipped to the image")
        self._boxes.add((image, kind, finding, laterality, frame, left, top, right - left, bottom - top))

    def finish(self) -> Prepared:
        """The manifest, with the findings and boxes of its images.

        Raises:
            ValueError: If no image is left, the data set's own split leaks or names an unknown part, or there are too
                few patients for the fractions asked for.
        """
        records = list(self._kept_records())
        if not records:
            raise ValueError(f"no image of {self._source} can be used; dropped: {dict(self.report.dropped)}")
        self.report.kept = len(records)
        patients = [self._patient(record) for record in records]
        parts = self._parts(records)
        table = _table(self._source, records, patients, parts)
        licence = LICENCES[self._source]
        info = {"source": self._source, "licence": licence.terms, "citation": licence.citation}
        info |= {"options": self._options.as_json(), "split_hash": split_hash(patients, parts)}
        return Prepared(
            manifest=Manifest(table, info),
            findings=self._of_kept(self._findings.table(), records),
            boxes=self._of_kept(self._boxes.table(), records),
            report=self.report,
        )

    def _unusable(self, record: ImageRecord) -> str:
        """Why an image may not be kept; "" if it may."""
        if not record.patient:
            return "no patient"
        if self._options.views == "frontal" and record.view not in FRONTAL_VIEWS:
            return f"not frontal: {record.view}" if record.view else "view not known"
        if self._options.split == "own" and not record.part:
            return "in no part of the data set's own split"
        if not stays_inside(record.image):
            return "path outside root"
        if self._options.require_images:
            try:
                check_inside(self._root, record.image)
            except PathError as error:
                return error.reason
        return ""

    def _merge(self, earlier: ImageRecord, record: ImageRecord) -> bool:
        """What two rows about one image agree on; True if they differ."""
        self.report.drop("same image as an earlier row", record.where)
        if (earlier.patient, earlier.part) != (record.patient, record.part):
            self._two_patients.add(record.image)
            return False
        ours, theirs = _filled(earlier, record.labels), _filled(record, earlier.labels)
        conflicts = [name for name in ours if ours[name] != theirs[name]]
        if not conflicts and earlier.complete == record.complete:
            return False
        self.report.notice("conflicting labels of one image, now unknown", len(conflicts))
        labels = {name: None if name in conflicts else value for name, value in ours.items()}
        complete = earlier.complete and record.complete
        self._records[record.image] = replace(earlier, labels=labels, complete=complete)
        return True

    def _kept_records(self) -> Iterator[ImageRecord]:
        for image, record in self._records.items():
            if image in self._two_patients:
                self.report.drop("one image, two patients or parts", record.where)
            else:
                yield record

    def _patient(self, record: ImageRecord) -> str:
        """The patient's name in the manifest: the source's own pseudonym, or a keyed hash of it."""
        name = f"{self._patients_of}:{record.patient}"
        if not self._options.patient_salt:
            return name
        digest = hmac.new(self._options.patient_salt.encode(), name.encode(), hashlib.sha256)
        return f"{self._patients_of}:{digest.hexdigest()[:20]}"

    def _parts(self, records: list[ImageRecord]) -> list[str]:
        # By the unsalted name, so that another salt leaves everybody where they are.
        names = [f"{self._patients_of}:{record.patient}" for record in records]
        if self._options.split == "own":
            return part_of_rows(own_split(names, [record.part for record in records]))
        return part_of_rows(grouped_split(names, self._options.fractions, self._options.seed))

    def _of_kept(self, table: pa.Table, records: list[ImageRecord]) -> pa.Table:
        kept = pc.is_in(table["image"], pa.array([record.image for record in records]))
        if "study" in table.column_names:
            studies = pa.array(sorted({record.study for record in records} - {""}), pa.string())
            kept = pc.if_else(pc.equal(table["image"], ""), pc.is_in(table["study"], studies), kept)
        return table.filter(kept)


def _filled(record: ImageRecord, others: Iterable[str]) -> dict[str, int | None]:
    """The labels of `record`, and what it says by silence of `others`."""
    silence = 0 if record.complete else None
    return dict.fromkeys(others, silence) | record.labels


def _table(source: str, records: list[ImageRecord], patients: list[str], parts: list[str]) -> pa.Table:
    columns: dict[str, Any] = {
        "image": [record.image for record in records],
        "patient": patients,
        "study": [record.study for record in records],
        "view": [record.view for record in records],
        "source": [f"{source}/{name}" if (name := record.part_of_source) else source for record in records],
        "split": parts,
        "complete": [record.complete for record in records],
        "age": [record.age for record in records],
        "sex": [record.sex for record in records],
    }
    table = pa.Table.from_pydict(columns, BASE_SCHEMA)
    names = sorted({name for record in records for name in record.labels})
    index = {name: column for column, name in enumerate(names)}
    values = np.zeros((len(records), len(names)), dtype=np.int8)
    unknown = np.zeros(values.shape, dtype=bool)
    for row, record in enumerate(records):
        unknown[row] = not record.complete
        for name, value in record.labels.items():
            unknown[row, index[name]] = value is None
            values[row, index[name]] = value or 0
    for name, column in index.items():
        table = table.append_column(LABEL_PREFIX + name, pa.array(values[:, column], mask=unknown[:, column]))
    return table
