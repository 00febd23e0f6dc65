"""Chest ImaGenome 1.0.0 (Wu et al., 2021): findings of 36 regions on 243,310 images of MIMIC-CXR.

Layout: `silver_dataset/scene_graph.zip` or the folder `silver_dataset/scene_graph`, or
`silver_dataset/scene_tabular/attribute_relations_tabular.txt`; `silver_dataset/splits/{train,valid,test}.csv` and
`images_to_avoid.csv`. The images are MIMIC-CXR-JPG's.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spf_data.sources import mimic_files
from spf_data.sources.collect import Collector, FindingRecord, ImageRecord, Prepared
from spf_data.sources.documents import Documents
from spf_data.sources.options import PrepareOptions
from spf_data.sources.paths import PathError
from spf_data.sources.tables import find_table, read_table
from spf_data.sources.values import side_of

_PAIRED = (
    "lung",
    "upper lung zone",
    "mid lung zone",
    "lower lung zone",
    "hilar structures",
    "apical zone",
    "costophrenic angle",
    "cardiophrenic angle",
    "hemidiaphragm",
    "clavicle",
    "cardiac silhouette",
    "upper abdomen",
)
_SINGLE = (
    "trachea",
    "spine",
    "aortic arch",
    "mediastinum",
    "upper mediastinum",
    "svc",
    "cardiac silhouette",
    "cavoatrial junction",
    "right atrium",
    "descending aorta",
    "carina",
    "abdomen",
)
REGIONS = (*(f"{side} {region}" for region in _PAIRED for side in ("right", "left")), *_SINGLE)

GRAPHS = ("silver_dataset/scene_graph.zip", "silver_dataset/scene_graph")
ATTRIBUTES = "silver_dataset/scene_tabular/attribute_relations_tabular.txt"
SPLITS = "silver_dataset/splits"
_FRAME = 224.0
# The other attributes say how an image was taken, how a finding looks, or are left over from the analysis of the text.
_KINDS = {"anatomicalfinding": "finding", "disease": "disease", "device": "device", "tubesandlines": "device"}
_SPLIT_COLUMNS = ("subject_id", "study_id", "dicom_id")
_TABLE_COLUMNS = ("study_id", "image_id", "bbox", "categoryID", "label_name", "relation")

# (region, type, finding) -> "yes", "no", or "uncertain" where phrases disagree.
Attributes = dict[tuple[str, str, str], str]


def prepare(options: PrepareOptions) -> Prepared:
    """Make the manifest of Chest ImaGenome.

    Findings are of the image and name one region each. A region that has a finding by one phrase and not by another is
    "uncertain". Labels: a finding is present where any region has it, absent where a region is said not to have it and
    none has; the rest is not known. `split="own"` is the data set's own, which is not MIMIC's.

    Raises:
        FileNotFoundError: If neither scene graphs nor the table of attributes are there, or the splits' tables are not.
        ValueError: If a file is damaged as a whole or lacks a column, or no image is left.
    """
    collector = Collector("chest-imagenome", options, patients_of=mimic_files.PATIENTS)
    folder = options.tables_folder
    parts, avoided, table_of_images = _read_splits(folder / SPLITS, collector)
    graphs = next((folder / name for name in GRAPHS if (folder / name).exists()), None)
    if graphs is not None:
        for name, graph in _read_graphs(graphs, collector):
            _add_graph(name, graph, parts, avoided, collector)
    else:
        _add_table(find_table(folder, ATTRIBUTES), parts, avoided, table_of_images, collector)
    return collector.finish()


def _read_splits(
    folder: Path, collector: Collector
) -> tuple[dict[str, str], set[str], dict[str, tuple[str, str, str]]]:
    """Part of each image, the images to avoid, and subject, study and view of each image."""
    parts: dict[str, str] = {}
    images: dict[str, tuple[str, str, str]] = {}
    for part in ("train", "valid", "test"):
        columns = (*_SPLIT_COLUMNS, "ViewPosition")
        for _, row in read_table(find_table(folder, f"{part}.csv"), columns, collector.report):
            if parts.setdefault(row["dicom_id"], part) != part:
                raise ValueError(f"{folder}: an image is in the parts {parts[row['dicom_id']]} and {part}")
            images[row["dicom_id"]] = (row["subject_id"], row["study_id"], row["ViewPosition"])
    avoid = read_table(find_table(folder, "images_to_avoid.csv"), ("dicom_id",), collector.report)
    return parts, {row["dicom_id"] for _, row in avoid}, images


def _read_graphs(path: Path, collector: Collector) -> Iterator[tuple[str, dict[str, Any]]]:
    with Documents(path, "_SceneGraph.json", collector.report) as documents:
        for name, content in documents:
            try:
                graph = json.loads(content)
            except (ValueError, RecursionError):
                graph = None
            if isinstance(graph, dict) and all(
                isinstance(graph.get(key), str | int) for key in ("image_id", "study_id")
            ):
                yield name, graph
            else:
                collector.drop("unreadable scene graph", name)


def _add_graph(
    name: str, graph: dict[str, Any], parts: dict[str, str], avoided: set[str], collector: Collector
) -> None:
    dicom = str(graph["image_id"]).removesuffix(".dcm")
    attributes = _attributes_of(graph, collector)
    ids = (str(graph.get("patient_id", "")), str(graph["study_id"]))
    view = str(graph.get("viewpoint", ""))
    record = _record(name, dicom, ids, view, attributes, parts, avoided, collector)
    if record is not None and collector.add(record):
        _add_findings(record, attributes, collector)
        _add_boxes(record.image, graph, collector)


def _record(
    where: str | int,
    dicom: str,
    ids: tuple[str, str],
    view: str,
    attributes: Attributes,
    parts: dict[str, str],
    avoided: set[str],
    collector: Collector,
) -> ImageRecord | None:
    subject, study = ids
    if dicom in avoided:
        collector.drop("image to avoid (of a patient of the gold set)", where)
        return None
    try:
        image = mimic_files.image_path(subject, study, dicom)
    except PathError as error:
        collector.drop(error.reason, where)
        return None
    return ImageRecord(
        where=where,
        image=image,
        patient=subject,
        study=study,
        view=mimic_files.view(view),
        labels=_labels(attributes),
        complete=False,
        part=parts.get(dicom, ""),
    )


def _labels(attributes: Attributes) -> dict[str, int | None]:
    polarities: dict[str, set[str]] = {}
    for (_, _, finding), polarity in attributes.items():
        polarities.setdefault(finding, set()).add(polarity)
    return {finding: 1 if "yes" in said else None if "uncertain" in said else 0 for finding, said in polarities.items()}


def _attributes_of(graph: dict[str, Any], collector: Collector) -> Attributes:
    """The findings of each region, from all phrases."""
    attributes: Attributes = {}
    for entry in _dictionaries(graph.get("attributes")):
        region = entry.get("bbox_name")
        for phrase in _lists(entry.get("attributes")):
            for text in phrase:
                kind, _, rest = str(text).partition("|")
                polarity, _, finding = rest.partition("|")
                _take(attributes, str(region), kind, finding, polarity, collector)
    return attributes


def _take(attributes: Attributes, region: str, kind: str, finding: str, polarity: str, collector: Collector) -> None:
    if kind not in _KINDS:
        return
    if region not in REGIONS or polarity not in ("yes", "no") or not finding:
        collector.report.notice("attribute left out: region or polarity not known")
        return
    key = (region, kind, finding)
    earlier = attributes.setdefault(key, polarity)
    if earlier not in (polarity, "uncertain"):
        attributes[key] = "uncertain"
        collector.report.notice("region with and without a finding, now uncertain")


def _add_findings(record: ImageRecord, attributes: Attributes, collector: Collector) -> None:
    for (region, kind, finding), polarity in attributes.items():
        side = "" if region == "right atrium" else side_of([region])
        collector.add_finding(
            FindingRecord(
                level="image",
                image=record.image,
                study=record.study,
                finding=finding,
                polarity=polarity,
                anatomy=(region,),
                laterality=side,
                rule="scene graph",
                kind=_KINDS[kind],
            )
        )


def _add_boxes(image: str, graph: dict[str, Any], collector: Collector) -> None:
    """The regions' boxes, in the frame of 224 pixels that the image was zero-padded and shrunk to."""
    seen: set[str] = set()
    for entry in _dictionaries(graph.get("objects")):
        region = str(entry.get("bbox_name"))
        if region not in REGIONS or region in seen:
            collector.report.notice("box of an unknown region" if region not in REGIONS else "second box of a region")
            continue
        seen.add(region)
        try:
            left, top, right, bottom = (float(entry[key]) / _FRAME for key in ("x1", "y1", "x2", "y2"))
        except (KeyError, TypeError, ValueError):
            collector.report.notice("box left out: not four finite numbers")
            continue
        side = "" if region == "right atrium" else side_of([region])
        collector.add_box(image, "region", region, side, "square", (left, top, right - left, bottom - top))
    if len(seen) < len(REGIONS) - 7:
        collector.report.notice("image with boxes of fewer than 29 regions")


def _add_table(
    path: Path,
    parts: dict[str, str],
    avoided: set[str],
    images: dict[str, tuple[str, str, str]],
    collector: Collector,
) -> None:
    """The findings of the table of attributes; it has no boxes, and no subjects: those are the splits'."""
    attributes: dict[str, Attributes] = {}
    for _, row in read_table(path, _TABLE_COLUMNS, collector.report, delimiter="\t"):
        dicom = row["image_id"].removesuffix(".dcm")
        polarity = {"1": "yes", "0": "no"}.get(row["relation"], row["relation"])
        _take(attributes.setdefault(dicom, {}), row["bbox"], row["categoryID"], row["label_name"], polarity, collector)
    for dicom, found in attributes.items():
        if dicom not in images and dicom not in avoided:
            collector.drop("in no part of the data set's own split", dicom)
            continue
        subject, study, view = images.get(dicom, ("", "", ""))
        record = _record(dicom, dicom, (subject, study), view, found, parts, avoided, collector)
        if record is not None and collector.add(record):
            _add_findings(record, found, collector)


def _dictionaries(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _lists(value: object) -> list[list[Any]]:
    return [item for item in value if isinstance(item, list)] if isinstance(value, list) else []
