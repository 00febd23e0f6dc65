"""MIMIC-CXR-JPG 2.x (Johnson et al., 2019): 377,110 images of 227,835 studies, 14 CheXpert labels, reports.

Layout: `mimic-cxr-2.0.0-metadata.csv`, `-split.csv`, `-chexpert.csv`, in 2.1.0 `mimic-cxr-2.1.0-test-set-labeled.csv`
(all as they are or gzipped), images below `files/`, reports in `mimic-cxr-reports.zip` or the folder that it unpacks
to.
"""

from pathlib import Path

from spf_data.sources import mimic_files
from spf_data.sources.collect import Collector, FindingRecord, ImageRecord, Prepared
from spf_data.sources.options import PrepareOptions
from spf_data.sources.paths import PathError
from spf_data.sources.tables import Row, find_table, read_table
from spf_data.sources.values import parse_label

CHEXPERT = "mimic-cxr-2.0.0-chexpert.csv"
RADIOLOGIST = "mimic-cxr-2.1.0-test-set-labeled.csv"
LABELS = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Enlarged Cardiomediastinum",
    "Fracture",
    "Lung Lesion",
    "Lung Opacity",
    "No Finding",
    "Pleural Effusion",
    "Pleural Other",
    "Pneumonia",
    "Pneumothorax",
    "Support Devices",
)
# What the table of the radiologists calls one of them.
_RADIOLOGIST_NAMES = {"Airspace Opacity": "Lung Opacity"}
_CONFLICT = "two rows disagree"
_POLARITIES = {"1": "yes", "0": "no", "-1": "uncertain", _CONFLICT: "uncertain"}

# Raw values ("1", "0", "-1", or a conflict; absent where not mentioned) by study, and what they come from.
StudyLabels = dict[str, tuple[dict[str, str], str]]


def prepare(options: PrepareOptions) -> Prepared:
    """Make the manifest of MIMIC-CXR-JPG.

    Labels are of the study. Uncertain ones and those not mentioned become what `options` says. Where a study of the
    test part has labels by radiologists they replace CheXpert's. With `label_report` the reports are read, and what it
    finds goes to the findings.

    Raises:
        FileNotFoundError: If a table, or with `label_report` the reports, are absent.
        ValueError: If a table is damaged or lacks a column, two rows place an image in two parts, or no image is left.
    """
    collector = Collector("mimic-cxr", options)
    folder = options.tables_folder
    parts = _read_parts(folder, collector)
    labels = _read_labels(folder, collector)
    table = find_table(folder, mimic_files.METADATA)
    columns = ("dicom_id", "subject_id", "study_id", "ViewPosition")
    subjects: dict[str, str] = {}
    for number, row in read_table(table, columns, collector.report):
        record = _read_row(number, row, parts, labels, options, collector)
        if record is not None and collector.add(record):
            subjects[record.study] = record.patient
            if record.study not in labels:
                collector.report.notice("image of a study without CheXpert labels: all unknown")
    _add_label_findings(subjects, labels, collector)
    if options.label_report is not None:
        _read_reports(options.reports or mimic_files.find_reports(folder), subjects, options, collector)
    return collector.finish()


def _read_parts(folder: Path, collector: Collector) -> dict[str, tuple[str, str]]:
    """Subject and part of each image."""
    parts: dict[str, tuple[str, str]] = {}
    path = find_table(folder, mimic_files.SPLIT)
    for number, row in read_table(path, ("dicom_id", "study_id", "subject_id", "split"), collector.report):
        value = (row["subject_id"], row["split"])
        if parts.setdefault(row["dicom_id"], value) != value:
            raise ValueError(f"{path}, row {number}: the image is in another part, or of another subject, than before")
    return parts


def _read_labels(folder: Path, collector: Collector) -> StudyLabels:
    """The labels of each study, the radiologists' where there are some."""
    labels: StudyLabels = {}
    for number, row in read_table(find_table(folder, CHEXPERT), ("subject_id", "study_id", *LABELS), collector.report):
        _take_labels(labels, row, "CheXpert", f"{CHEXPERT}, row {number}", collector)
    try:
        path = find_table(folder, RADIOLOGIST)
    except FileNotFoundError:
        collector.report.notice(f"no {RADIOLOGIST}: no labels by radiologists")
        return labels
    read: StudyLabels = {}
    for number, row in read_table(path, ("study_id",), collector.report):
        renamed = {_RADIOLOGIST_NAMES.get(name, name): value for name, value in row.items()}
        missing = [name for name in LABELS if name not in renamed]
        if missing:
            raise ValueError(f"{path} lacks the columns {missing}")
        _take_labels(read, renamed, "radiologist", f"{path.name}, row {number}", collector)
    collector.report.notice("study with labels by radiologists", len(read))
    return labels | read


def _take_labels(labels: StudyLabels, row: Row, rule: str, where: str, collector: Collector) -> None:
    values = {}
    for name in LABELS:
        try:
            parse_label(row[name], "unknown")
        except ValueError as error:
            raise ValueError(f"{where}: {name}: {error}") from error
        if row[name].strip():
            values[name] = str(int(float(row[name])))
    # MIMIC's study identifiers are written as floats in some copies of these tables.
    study = row["study_id"].strip().removesuffix(".0")
    if study in labels:
        collector.report.notice("study with a second row of labels")
        earlier = labels[study][0]
        conflicts = {name for name in LABELS if earlier.get(name) != values.get(name)}
        collector.report.notice("conflicting labels of one study, now unknown", len(conflicts))
        values |= dict.fromkeys(conflicts, _CONFLICT)
    labels[study] = (values, rule)


def _read_row(
    number: int,
    row: Row,
    parts: dict[str, tuple[str, str]],
    labels: StudyLabels,
    options: PrepareOptions,
    collector: Collector,
) -> ImageRecord | None:
    subject, study, dicom = (row[name].strip() for name in ("subject_id", "study_id", "dicom_id"))
    try:
        image = mimic_files.image_path(subject, study, dicom)
    except PathError as error:
        collector.drop(error.reason, number)
        return None
    listed_subject, part = parts.get(dicom, (subject, ""))
    if listed_subject != subject:
        collector.drop("metadata and split name two subjects", number)
        return None
    values = labels[study][0] if study in labels else {}
    complete = study in labels and options.not_mentioned == "negative"
    silence = 0 if complete else None
    return ImageRecord(
        where=number,
        image=image,
        patient=subject,
        study=study,
        view=mimic_files.view(row["ViewPosition"]),
        labels={name: _value(values[name], options) if name in values else silence for name in LABELS},
        complete=complete,
        part=part,
    )


def _value(text: str, options: PrepareOptions) -> int | None:
    return None if text == _CONFLICT else parse_label(text, options.uncertain)


def _add_label_findings(subjects: dict[str, str], labels: StudyLabels, collector: Collector) -> None:
    for study in subjects:
        values, rule = labels.get(study, ({}, ""))
        for name, value in values.items():
            if name != "No Finding":
                collector.add_finding(
                    FindingRecord("study", "", study, name, polarity=_POLARITIES[value], rule=f"label: {rule}")
                )


def _read_reports(path: Path, subjects: dict[str, str], options: PrepareOptions, collector: Collector) -> None:
    reports = mimic_files.Reports(path, collector.report)
    try:
        for study, subject in subjects.items():
            text = reports.text(subject, study)
            if text is not None and options.label_report is not None:
                collector.add_report(study, options.label_report(text))
    finally:
        reports.close()
