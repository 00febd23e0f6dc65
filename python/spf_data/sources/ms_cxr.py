"""MS-CXR (Boecking et al., ECCV 2022): 1,448 boxes of 8 findings on images of MIMIC-CXR.

Layout: `MS_CXR_Local_Alignment_v1.1.0.csv` (or v1.0.0, which has no split); the images are MIMIC-CXR-JPG's.
"""

from spf_data.sources import mimic_files
from spf_data.sources.collect import Collector, FindingRecord, ImageRecord, Prepared
from spf_data.sources.options import PrepareOptions
from spf_data.sources.paths import PathError
from spf_data.sources.tables import Row, find_table, read_table
from spf_data.sources.values import parse_fractions, side_of, side_of_box

TABLES = ("MS_CXR_Local_Alignment_v1.1.0.csv", "MS_CXR_Local_Alignment_v1.0.0.csv")
_COLUMNS = ("dicom_id", "category_name", "label_text", "path", "x", "y", "w", "h", "image_width", "image_height")


def prepare(options: PrepareOptions) -> Prepared:
    """Make the manifest of MS-CXR, for evaluating where a network looks.

    A table's row is a box; its image has the label that the row names, and the others are not known. The side is that
    of the phrase, else of the box. Patients are named as MIMIC-CXR's are, and so are in the same part of a split by
    hash; MS-CXR's own split is not MIMIC's. All images are frontal.

    Raises:
        FileNotFoundError: If the table is absent.
        ValueError: If it is damaged or lacks a column, or no image is left.
    """
    collector = Collector("ms-cxr", options, patients_of=mimic_files.PATIENTS)
    path = find_table(options.tables_folder, *TABLES)
    rows_of: dict[str, list[tuple[int, Row]]] = {}
    for number, row in read_table(path, _COLUMNS, collector.report):
        rows_of.setdefault(row["dicom_id"].strip(), []).append((number, row))
    for rows in rows_of.values():
        _add_image(rows, collector)
    return collector.finish()


def _add_image(rows: list[tuple[int, Row]], collector: Collector) -> None:
    number, first = rows[0]
    folders = first["path"].strip().split("/")
    subject, study = (folders[-3].removeprefix("p"), folders[-2].removeprefix("s")) if len(folders) >= 3 else ("", "")
    try:
        image = mimic_files.image_path(subject, study, first["dicom_id"].strip())
    except PathError as error:
        collector.drop(error.reason, number)
        return
    if any(row["path"] != first["path"] or row.get("split") != first.get("split") for _, row in rows):
        collector.drop("rows of one image disagree on its path or part", number)
        return
    labels: dict[str, int | None] = {row["category_name"].strip(): 1 for _, row in rows}
    record = ImageRecord(
        number, image, subject, study, "frontal", labels, complete=False, part=first.get("split", "").strip()
    )
    if not collector.add(record):
        return
    for _, row in rows:
        _add_row(row, record, collector)


def _add_row(row: Row, record: ImageRecord, collector: Collector) -> None:
    try:
        width, height = float(row["image_width"]), float(row["image_height"])
    except ValueError:
        width = height = 0.0
    box = parse_fractions((row["x"], row["y"], row["w"], row["h"]), width, height)
    finding = row["category_name"].strip()
    side = side_of([row["label_text"].replace(",", " ").replace(".", " ")]) or side_of_box(box[0], box[2])
    collector.add_finding(
        FindingRecord("image", record.image, record.study, finding, laterality=side, rule="box and phrase")
    )
    collector.add_box(record.image, "finding", finding, side, "image", box)
