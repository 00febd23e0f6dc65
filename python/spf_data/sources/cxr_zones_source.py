"""cxr-zones: 1,168 frontal radiographs of two public collections with opacity labels for six lung zones.

Layout: `labels.csv`, and the images that it names.
"""

import json
from pathlib import Path

from spf_data.cxr_zones import LABEL_COLUMNS, LABEL_SET, LUNG_COLUMNS, REQUIRED_COLUMNS
from spf_data.sources.collect import Collector, FindingRecord, ImageRecord, Prepared
from spf_data.sources.options import PrepareOptions
from spf_data.sources.tables import Row, find_table, read_table
from spf_data.sources.values import parse_age, parse_label, parse_sex, side_of_box

_EXTRA_COLUMNS = ("projection", "sex", "age", "boxes", "location_labels")
# Boxes are drawn on the images as they are: 256 pixels a side.
_SIDE = 256.0
_VIEWS = {"PA": "PA", "AP": "AP", "AP Supine": "AP supine"}
_LUNGS = dict(zip(LUNG_COLUMNS, ("right", "left"), strict=True))


def prepare(options: PrepareOptions) -> Prepared:
    """Make the manifest of cxr-zones.

    Labels are of the image; images without a known zone stay, with all six labels unknown. The lungs' boxes are
    regions, "right lung" and "left lung". `group` (patients merged with near-duplicates) is the patient.

    Raises:
        FileNotFoundError: If the table is absent.
        ValueError: If it is damaged or lacks a column, no image is left, or `split` is "own": there is none.
    """
    if options.split == "own":
        raise ValueError("split must be 'hash': cxr-zones has no split of its own, got 'own'")
    collector = Collector("cxr-zones", options)
    table: Path = find_table(options.tables_folder, "labels.csv")
    # The two collections differ in how many findings they hold: `source` keeps them apart.
    columns = (*REQUIRED_COLUMNS, *_EXTRA_COLUMNS)
    for number, row in read_table(table, columns, collector.report):
        try:
            labels = {
                name: parse_label(row[column], "unknown")
                for name, column in zip(LABEL_SET.names, LABEL_COLUMNS, strict=True)
            }
        except ValueError:
            collector.drop("invalid label", number)
            continue
        record = ImageRecord(
            where=number,
            image=row["image"],
            patient=row["group"],
            study=row["image"],
            view=_VIEWS.get(row["projection"], "frontal"),
            part_of_source=row["source"],
            labels=labels,
            complete=False,
            age=parse_age(row["age"], collector.report),
            sex=parse_sex(row["sex"]),
        )
        if collector.add(record):
            _add_findings(row, record, collector)
            _add_boxes(row, record.image, collector)
    return collector.finish()


def _add_findings(row: Row, record: ImageRecord, collector: Collector) -> None:
    """`Finding/lung/side/zone;...`, positives only."""
    for text in filter(None, row["location_labels"].split(";")):
        finding, *places = text.strip().split("/")
        sides = [place for place in places if place in ("left", "right", "bilateral")]
        collector.add_finding(
            FindingRecord(
                level="image",
                image=record.image,
                study=record.study,
                finding=finding,
                anatomy=tuple(place for place in places if place not in sides),
                laterality=sides[0] if sides else "",
                rule="location_labels",
            )
        )


def _add_boxes(row: Row, image: str, collector: Collector) -> None:
    for column, side in _LUNGS.items():
        if row[column]:
            _add_box(image, "region", f"{side} lung", side, row[column], collector)
    try:
        boxes = json.loads(row["boxes"] or "[]")
    except ValueError:
        boxes = None
    if not isinstance(boxes, list):
        collector.report.notice("boxes left out: not a JSON list")
        return
    for box in boxes:
        named = isinstance(box, dict)
        label = str(box.get("label", "")) if named else ""
        _add_box(image, "finding", label, None, json.dumps(box.get("box") if named else box), collector)


def _add_box(image: str, kind: str, name: str, side: str | None, text: str, collector: Collector) -> None:
    try:
        x, y, w, h = (float(number) / _SIDE for number in json.loads(text))
    except (TypeError, ValueError):
        collector.report.notice("box left out: not four finite numbers")
        return
    collector.add_box(image, kind, name, side_of_box(x, w) if side is None else side, "image", (x, y, w, h))
