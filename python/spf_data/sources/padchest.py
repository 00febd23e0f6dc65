"""PadChest (Bustos et al., Medical Image Analysis 2020): 160,861 images, 194 labels, 104 places.

Layout: `PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv` (or .csv.gz), 16-bit PNG images in any folders below the
root (the archive's are called 0 to 54).
"""

import re

from spf_data.sources.collect import Collector, FindingRecord, ImageRecord, Prepared
from spf_data.sources.options import PrepareOptions
from spf_data.sources.padchest_labels import (
    EXCLUDE,
    NORMAL,
    NOT_FINDINGS,
    SUBOPTIMAL,
    UNCHANGED,
    Group,
    parse_groups,
    parse_list,
    places_of,
    split_side,
)
from spf_data.sources.paths import ImageIndex, PathError, check_name
from spf_data.sources.tables import Row, find_table, read_table
from spf_data.sources.values import parse_age, parse_sex

TABLE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
_COLUMNS = (
    "ImageID",
    "ImageDir",
    "StudyDate_DICOM",
    "StudyID",
    "PatientID",
    "PatientBirth",
    "PatientSex_DICOM",
    "Projection",
    "Pediatric",
    "MethodLabel",
    "Labels",
    "LabelsLocalizationsBySentence",
)
# By `Projection`, which was checked; 69,085 rows have no ViewPosition_DICOM.
_VIEWS = {"PA": "PA", "AP": "AP", "AP_horizontal": "AP supine", "L": "lateral", "COSTAL": "costal"}
_YEAR = re.compile("[0-9]{4}")


def prepare(options: PrepareOptions) -> Prepared:
    """Make the manifest of PadChest.

    Labels are of the image's report. What a report does not name is absent, but not where it says `unchanged` or where
    a sentence was excluded: there it is not known. `normal` is a label only where it is the only one. Images that the
    table marks as of children are dropped.

    Raises:
        FileNotFoundError: If the table is absent.
        ValueError: If it is damaged or lacks a column, or no image is left; if `split` is "own": there is none.
    """
    if options.split == "own":
        raise ValueError("split must be 'hash': PadChest has no split of its own, got 'own'")
    collector = Collector("padchest", options)
    index = ImageIndex(options.root) if options.require_images else None
    groups_of: dict[str, list[Group] | None] = {}
    for number, row in read_table(find_table(options.tables_folder, TABLE), _COLUMNS, collector.report):
        try:
            image = _image(row, index)
        except PathError as error:
            collector.drop(error.reason, number)
            continue
        text = row["LabelsLocalizationsBySentence"]
        if text not in groups_of:
            groups_of[text] = parse_groups(text)
        _add_row(number, row, image, groups_of[text], collector)
    return collector.finish()


def _image(row: Row, index: ImageIndex | None) -> str:
    """The image's path: where it is, or where the archive's folders would put it."""
    name = check_name(row["ImageID"])
    return f"{check_name(row['ImageDir'])}/{name}" if index is None else index.find(name)


def _add_row(number: int, row: Row, image: str, groups: list[Group] | None, collector: Collector) -> None:
    listed = parse_list(row["Labels"])
    if listed is None or groups is None:
        collector.drop("labels not known (nan)", number)
        return
    labels = {item.strip() for item in listed if isinstance(item, str)}
    said = {label for group in groups for label in group.labels}
    reason = _unusable(row, labels, said)
    if reason:
        collector.drop(reason, number)
        return
    gap = _gap(row, listed, labels | said)
    record = _record(number, row, image, labels | said, not gap, collector)
    if not collector.add(record):
        return
    if gap:
        collector.report.notice(f"labels incomplete ({gap}): absent ones unknown")
    _add_findings(row, record, groups, collector)


def _unusable(row: Row, labels: set[str], said: set[str]) -> str:
    """Why an image may not be kept; "" if it may."""
    if row["Pediatric"] == "PED":
        return "pediatric"
    if EXCLUDE in labels:
        return "excluded by the data set"
    if SUBOPTIMAL in labels | said:
        return "suboptimal study"
    if not (labels | said) - {""}:
        return "no label"
    return ""


def _gap(row: Row, listed: list[object], labels: set[str]) -> str:
    """Why the labels do not say all that the report did; "" if they do."""
    if UNCHANGED in labels:
        return UNCHANGED
    if EXCLUDE in labels:
        return "a sentence was excluded"
    # A bare nan: a sentence without labels.
    text = row["LabelsLocalizationsBySentence"]
    sentences = parse_list(text) if "nan" in text else []
    return "a sentence has no labels" if None in [*listed, *(sentences or [])] else ""


def _record(number: int, row: Row, image: str, labels: set[str], complete: bool, collector: Collector) -> ImageRecord:
    found: dict[str, int | None] = {split_side(label)[0]: 1 for label in labels - NOT_FINDINGS}
    if not found and complete:
        found[NORMAL] = 1
    view = row["Projection"]
    return ImageRecord(
        where=number,
        image=image,
        patient=row["PatientID"],
        study=row["StudyID"],
        view=_VIEWS.get(view, "" if view == "UNK" else view),
        labels=found,
        complete=complete,
        age=_age(row, collector),
        sex=parse_sex(row["PatientSex_DICOM"]),
    )


def _age(row: Row, collector: Collector) -> float | None:
    """Years between the year of birth and that of the study."""
    birth, study = row["PatientBirth"].removesuffix(".0"), row["StudyDate_DICOM"][:4]
    if not (_YEAR.fullmatch(birth) and _YEAR.fullmatch(study)):
        return None
    return parse_age(str(int(study) - int(birth)), collector.report)


def _add_findings(row: Row, record: ImageRecord, groups: list[Group], collector: Collector) -> None:
    rule = f"LabelsLocalizationsBySentence: {row['MethodLabel']}"
    places = {place: None for group in groups for place in places_of(group)}
    for place in places:
        collector.add_finding(
            FindingRecord(
                level="study",
                image=record.image,
                study=record.study,
                finding=place.finding,
                anatomy=place.anatomy,
                laterality=place.laterality,
                rule=rule,
            )
        )
