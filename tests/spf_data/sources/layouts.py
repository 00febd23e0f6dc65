"""Small copies of the public data sets' layouts, with their real column names."""

import csv
import gzip
import io
from pathlib import Path

import numpy as np
from PIL import Image
from spf_data.sources import PrepareOptions

ALL_TRAIN = (1.0, 0.0, 0.0)
PADCHEST_TABLE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"


def options(root, **changes):
    """Options for a handful of patients: a split by hash needs more of them than these layouts have."""
    return PrepareOptions(**({"root": Path(root), "fractions": ALL_TRAIN} | changes))


def csv_bytes(header, rows, delimiter=","):
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    if header is not None:
        writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode()


def write_csv(path, rows, header=None, *, zipped=False, delimiter=","):
    """Rows are dicts (the header is the first one's keys), or lists under `header`."""
    if header is None:
        header = list(rows[0])
        rows = [[row[name] for name in header] for row in rows]
    content = csv_bytes(header, rows, delimiter)
    path.parent.mkdir(parents=True, exist_ok=True)
    if zipped:
        path = path.with_name(path.name + ".gz")
        content = gzip.compress(content)
    path.write_bytes(content)
    return path


def write_image(path, seed=0, bits=8):
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = np.uint8 if bits == 8 else np.uint16
    Image.fromarray(np.random.default_rng(seed).integers(0, 2**bits, (8, 8)).astype(kind)).save(path)
    return path


def padchest_row(name="1_a.png", **changes):
    row = {
        "": "0",
        "ImageID": name,
        "ImageDir": "0",
        "StudyDate_DICOM": "20140915",
        "StudyID": "s1",
        "PatientID": "p1",
        "PatientBirth": "1930.0",
        "PatientSex_DICOM": "F",
        "ViewPosition_DICOM": "nan",
        "Projection": "PA",
        "MethodProjection": "Manual review of DICOM fields",
        "Pediatric": "No",
        "ReportID": "4765777",
        "Report": " sin hallazg .",
        "MethodLabel": "Physician",
        "Labels": "['normal']",
        "Localizations": "[]",
        "LabelsLocalizationsBySentence": "[['normal'], ['normal']]",
        "labelCUIS": "[]",
        "LocalizationsCUIS": "[]",
    }
    return row | changes


def labels_of(prepared):
    """{image: {label: value}} of a manifest, NaN as None."""
    labels = prepared.manifest.labels()
    names = prepared.manifest.label_names
    return {
        image: {name: None if np.isnan(value) else int(value) for name, value in zip(names, row, strict=True)}
        for image, row in zip(prepared.manifest.column("image"), labels, strict=True)
    }


def findings_of(prepared):
    """(finding, polarity, anatomy, laterality) of each finding, in order."""
    keys = ("finding", "polarity", "anatomy", "laterality")
    return [tuple(row[key] for key in keys) for row in prepared.findings.to_pylist()]


def counts_hold(prepared):
    """Whether no image vanished without being counted."""
    report = prepared.report
    return report.read == report.kept + sum(report.dropped.values()) and report.kept == len(prepared.manifest)
