"""Open-i, of Indiana University (Demner-Fushman et al., JAMIA 2016): 7,470 images, 3,955 reports with MeSH codes.

Two layouts: the original, `NLMCXR_reports.tgz` or the folder `ecgen-radiology` that it unpacks to, and Kaggle's,
`indiana_reports.csv` and `indiana_projections.csv`. The original does not say which image is frontal; beside it,
`indiana_projections.csv`, or `nlmcxr_dicom_metadata.csv` and `nlmcxr_tsne_pa.csv` (views by clustering) of the package
torchxrayvision, do.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree.ElementTree import ParseError

from spf_data.openi import DocumentTypeError, parse_report
from spf_data.sources.collect import Collector, FindingRecord, ImageRecord, Prepared
from spf_data.sources.documents import Documents
from spf_data.sources.options import PrepareOptions
from spf_data.sources.paths import ImageIndex, PathError, check_name
from spf_data.sources.report import Where
from spf_data.sources.tables import Row, find_table, read_table

ARCHIVES = ("NLMCXR_reports.tgz", "NLMCXR_reports", "ecgen-radiology")
PROJECTIONS = "indiana_projections.csv"
REPORTS = "indiana_reports.csv"
METADATA = "nlmcxr_dicom_metadata.csv"
CLUSTERS = "nlmcxr_tsne_pa.csv"

_VIEWS = {"PA": "PA", "AP": "AP", "LL": "lateral", "RL": "lateral", "LATERAL": "lateral", "LARGE LATERAL": "lateral"}
_SIDES = ("left", "right", "bilateral")
_SECTIONS = ("comparison", "indication", "findings", "impression")
# Parts of a code that say how a finding looks, not where it is.
_MODIFIERS = frozenset(
    {
        "abnormal",
        "acute",
        "blunted",
        "borderline",
        "bronchovascular",
        "chronic",
        "degenerative",
        "diffuse",
        "elevated",
        "enlarged",
        "flattened",
        "focal",
        "healed",
        "hyperdistention",
        "hypoinflation",
        "interstitial",
        "irregular",
        "large",
        "mild",
        "moderate",
        "multilobar",
        "multiple",
        "obscured",
        "patchy",
        "prominent",
        "reticular",
        "round",
        "scattered",
        "severe",
        "small",
        "streaky",
        "tortuous",
    }
)
_NORMAL = "normal"
_NOT_INDEXED = "no indexing"
_UNSATISFACTORY = "technical quality of image unsatisfactory"


@dataclass(frozen=True)
class Study:
    """One report.

    Attributes:
        where: Row or document.
        name: Identifier ("4").
        codes: MeSH codes, as they are.
        sections: Text by section.
        images: File name of each image, and its view.
    """

    where: Where
    name: str
    codes: tuple[str, ...]
    sections: dict[str, str]
    images: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        """The report, with its headings."""
        return "".join(f"{name.upper()}: {self.sections[name]}\n" for name in _SECTIONS if self.sections.get(name))


def prepare(options: PrepareOptions) -> Prepared:
    """Make the manifest of Open-i.

    Labels are of the report: the first part of each MeSH code, in small letters; what is not coded is absent, but not
    known where a report was not indexed. The codes' other parts go to the findings. The collection names no patients:
    each report counts as one.

    Raises:
        FileNotFoundError: If there are no reports.
        ValueError: If a file is damaged as a whole or lacks a column, no image is left, or `split` is "own": there is
            none.
    """
    if options.split == "own":
        raise ValueError("split must be 'hash': Open-i has no split of its own, got 'own'")
    collector = Collector("open-i", options)
    folder = options.tables_folder
    archive = next((folder / name for name in ARCHIVES if (folder / name).exists()), None)
    studies = _read_tables(folder, collector) if archive is None else _read_xml(archive, folder, collector)
    index = ImageIndex(options.root) if options.require_images else None
    seen: set[str] = set()
    for study in studies:
        if study.name in seen:
            collector.report.notice("report with the identifier of an earlier one")
            continue
        seen.add(study.name)
        _add_study(study, index, options, collector)
    return collector.finish()


def split_code(code: str) -> FindingRecord:
    """A MeSH code ("Opacity/lung/apex/left/irregular") as a finding, without image and study."""
    parts = [" ".join(part.lower().split()) for part in code.split("/")]
    rest = [part for part in parts[1:] if part]
    sides = [part for part in rest if part in _SIDES]
    return FindingRecord(
        level="study",
        image="",
        study="",
        finding=parts[0],
        anatomy=tuple(part for part in rest if part not in _SIDES and part not in _MODIFIERS),
        laterality=sides[0] if len(set(sides)) == 1 else "bilateral" if sides else "",
        modifiers=tuple(part for part in rest if part in _MODIFIERS),
        rule="MeSH",
    )


def _add_study(study: Study, index: ImageIndex | None, options: PrepareOptions, collector: Collector) -> None:
    if not study.images:
        collector.report.notice("report without an image")
    findings = [split_code(code) for code in study.codes if code.strip()]
    named = {finding.finding for finding in findings}
    added = False
    for name, view in study.images:
        if _UNSATISFACTORY in named:
            collector.drop("unsatisfactory image quality", study.where)
            continue
        try:
            image = index.find(name) if index is not None else check_name(name)
        except PathError as error:
            collector.drop(error.reason, study.where)
            continue
        complete = bool(named) and _NOT_INDEXED not in named
        labels: dict[str, int | None] = dict.fromkeys(named - {_NOT_INDEXED}, 1)
        record = ImageRecord(study.where, image, study.name, study.name, view, labels, complete)
        added |= collector.add(record)
    if not added:
        return
    for finding in findings:
        if finding.finding not in (_NORMAL, _NOT_INDEXED):
            collector.add_finding(replace(finding, study=study.name))
    if options.label_report is not None:
        collector.add_report(study.name, options.label_report(study.text))


def _read_xml(archive: Path, folder: Path, collector: Collector) -> list[Study]:
    views = _read_views(folder, collector)
    studies = []
    with Documents(archive, ".xml", collector.report) as documents:
        for name, content in documents:
            try:
                study = _parse_xml(name, content, views)
            except DocumentTypeError:
                collector.report.notice("report left out: XML with a document type")
                continue
            except (ParseError, ValueError, LookupError):
                study = None
            if study is None:
                collector.report.notice("report left out: not XML, or without an identifier")
            else:
                studies.append(study)
    return studies


def _parse_xml(where: str, content: bytes, views: dict[str, str]) -> Study | None:
    report = parse_report(content)
    name = "" if report is None else report.identifier.removeprefix("CXR")
    if report is None or not name:
        return None
    return Study(
        where=where,
        name=name,
        codes=report.codes,
        sections={name.lower(): text for name, text in report.sections.items()},
        images=tuple((f"{image}.png", views.get(image, "")) for image in report.images),
    )


def _read_views(folder: Path, collector: Collector) -> dict[str, str]:
    """The view of each image, by the identifier that the XML files use; DICOM's word counts most, a cluster's least."""
    views: dict[str, str] = {}
    for row in _view_rows(folder, CLUSTERS, ("imageid", "tsne-view"), collector):
        views[row["imageid"]] = {"PA": "frontal", "L": "lateral"}.get(row["tsne-view"], "")
    for row in _view_rows(folder, PROJECTIONS, ("uid", "filename", "projection"), collector):
        views[f"CXR{row['filename'].removesuffix('.dcm.png')}"] = row["projection"].strip().lower()
    for row in _view_rows(folder, METADATA, ("imageid", "View Position"), collector):
        view = _VIEWS.get(row["View Position"].strip(), "")
        if view:
            views[row["imageid"]] = view
    if not views:
        collector.report.notice(f"none of {METADATA}, {PROJECTIONS}, {CLUSTERS}: no view is known")
    return views


def _view_rows(folder: Path, name: str, columns: tuple[str, ...], collector: Collector) -> Iterator[Row]:
    """The rows of a table that need not be there."""
    try:
        path = find_table(folder, name)
    except FileNotFoundError:
        return
    for _, row in read_table(path, columns, collector.report):
        yield row


def _read_tables(folder: Path, collector: Collector) -> list[Study]:
    """Kaggle's copy: one table of reports, one of images."""
    images: dict[str, list[tuple[str, str]]] = {}
    projections = read_table(find_table(folder, PROJECTIONS), ("uid", "filename", "projection"), collector.report)
    for _, row in projections:
        images.setdefault(row["uid"], []).append((row["filename"], row["projection"].strip().lower()))
    columns = ("uid", "MeSH", "findings", "impression")
    studies = []
    for number, row in read_table(find_table(folder, REPORTS), columns, collector.report):
        sections = {name: row.get(name, "") for name in _SECTIONS}
        codes = tuple(code.strip() for code in row["MeSH"].split(";"))
        studies.append(Study(number, row["uid"], codes, sections, tuple(images.pop(row["uid"], ()))))
    for uid, left in images.items():
        for _ in left:
            collector.drop("image of no report", uid)
    return studies
