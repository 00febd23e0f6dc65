"""PadChest-GR (de Castro et al., 2025): 4,555 studies of PadChest with findings, places and boxes.

Layout: `grounded_reports_20240819.json`, `master_table.csv`, 16-bit PNG images in any folders below the root.
"""

import json
from pathlib import Path
from typing import Any

from spf_data.sources.collect import Collector, FindingRecord, ImageRecord, Prepared
from spf_data.sources.options import PrepareOptions
from spf_data.sources.padchest_labels import NOT_FINDINGS, Group, places_of, split_side
from spf_data.sources.paths import ImageIndex, PathError, check_name
from spf_data.sources.report import Where
from spf_data.sources.tables import find_table, read_table

REPORTS = "grounded_reports_20240819.json"
TABLE = "master_table.csv"


def prepare(options: PrepareOptions) -> Prepared:
    """Make the manifest of PadChest-GR, for evaluating where a network looks.

    Labels are of the study: what no sentence names is absent. Patients are named as PadChest's are, and so are in the
    same part of a split by hash. All images are frontal.

    Raises:
        FileNotFoundError: If a file is absent.
        ValueError: If one is damaged, or no image is left.
    """
    collector = Collector("padchest-gr", options, patients_of="padchest")
    folder = options.tables_folder
    studies = _read_reports(folder / REPORTS)
    patients: dict[str, tuple[str, str]] = {}
    columns = ("StudyID", "ImageID", "PatientID", "split")
    for number, row in read_table(find_table(folder, TABLE), columns, collector.report):
        value = (row["PatientID"], row["split"])
        if patients.setdefault(row["StudyID"], value) != value:
            raise ValueError(f"{folder / TABLE}, row {number}: the study is of another patient or part than before")
    index = ImageIndex(options.root) if options.require_images else None
    for number, study in enumerate(studies, start=1):
        _add_study(number, study, patients, index, collector)
    return collector.finish()


def _read_reports(path: Path) -> list[Any]:
    try:
        studies = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(studies, list):
        raise ValueError(f"{path} must hold a list of studies, got {type(studies).__name__}")
    return studies


def _add_study(
    where: Where,
    study: object,
    patients: dict[str, tuple[str, str]],
    index: ImageIndex | None,
    collector: Collector,
) -> None:
    if not isinstance(study, dict) or not isinstance(study.get("findings"), list):
        collector.drop("study without a list of findings", where)
        return
    name = str(study.get("StudyID", ""))
    if name not in patients:
        collector.drop(f"study that is not in {TABLE}", where)
        return
    try:
        file = str(study.get("ImageID", ""))
        image = index.find(file) if index is not None else check_name(file)
    except PathError as error:
        collector.drop(error.reason, where)
        return
    # A normal sentence lacks the keys of an abnormal one.
    findings = [entry for entry in study["findings"] if isinstance(entry, dict)]
    labels: dict[str, int | None] = {
        split_side(label)[0]: 1
        for entry in findings
        for label in _texts(entry.get("labels"))
        if label not in NOT_FINDINGS
    }
    patient, part = patients[name]
    if collector.add(ImageRecord(where, image, patient, name, "frontal", labels, part=part)):
        for entry in findings:
            _add_sentence(image, name, entry, collector)


def _add_sentence(image: str, study: str, entry: dict[str, Any], collector: Collector) -> None:
    places = tuple(place.removeprefix("loc ").strip() for place in _texts(entry.get("locations")))
    for place in places_of(Group(tuple(_texts(entry.get("labels"))), places)):
        collector.add_finding(
            FindingRecord(
                level="study",
                image=image,
                study=study,
                finding=place.finding,
                anatomy=place.anatomy,
                laterality=place.laterality,
                rule="grounded report",
            )
        )
        for box in [*_lists(entry.get("boxes")), *_lists(entry.get("extra_boxes"))]:
            try:
                left, top, right, bottom = (float(number) for number in box)
            except (TypeError, ValueError):
                collector.report.notice("box left out: not four finite numbers")
                continue
            size = (left, top, right - left, bottom - top)
            collector.add_box(image, "finding", place.finding, place.laterality, "image", size)


def _texts(value: object) -> list[str]:
    return [item.strip() for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _lists(value: object) -> list[list[Any]]:
    return [item for item in value if isinstance(item, list)] if isinstance(value, list) else []
