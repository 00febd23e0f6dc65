"""NIH ChestX-ray14 (Wang et al., CVPR 2017): 112,120 frontal images, 14 labels, 984 boxes.

Layout: `Data_Entry_2017.csv` or `Data_Entry_2017_v2020.csv`, `BBox_List_2017.csv`, `train_val_list.txt`,
`test_list.txt`, images in any folders below the root (`images_001/images/...`). All tables may be gzipped; boxes and
lists may be absent.
"""

from pathlib import Path

from spf_data.sources.collect import Collector, FindingRecord, ImageRecord, Prepared
from spf_data.sources.options import PrepareOptions
from spf_data.sources.paths import ImageIndex, PathError, check_name
from spf_data.sources.tables import Row, find_table, read_table
from spf_data.sources.values import parse_age, parse_fractions, parse_sex, side_of_box
from spf_data.splits import PARTS, grouped_split, part_of_rows

LABELS = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Effusion",
    "Emphysema",
    "Fibrosis",
    "Hernia",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pleural_Thickening",
    "Pneumonia",
    "Pneumothorax",
)
NO_FINDING = "No Finding"
# The list of boxes has a name of its own for it.
_BOX_NAMES = {"Infiltrate": "Infiltration"}
# The header's last columns hold commas within their names ("OriginalImage[Width,Height]"), and the newer table ends one
# column earlier: only these are looked up.
_COLUMNS = ("Image Index", "Finding Labels", "Patient ID", "Patient Age", "Patient Gender", "View Position")
_BOX_COLUMNS = ("Image Index", "Finding Label", "Bbox [x", "y", "w", "h]")
_SIDE = 1024.0
# The official list does not divide training from validation: an eighth gives 70/10/20 in all.
_TRAIN_OF_TRAIN_VAL = (0.875, 0.125, 0.0)


def prepare(options: PrepareOptions) -> Prepared:
    """Make the manifest of NIH ChestX-ray14.

    Labels are of the image: what a row does not name is absent. Boxes become findings with the side that they lie on.
    With `split="own"` the test part is `test_list.txt`, and the other list is divided into train and validation by
    patient.

    Raises:
        FileNotFoundError: If a table or list that is needed is absent.
        ValueError: If a table is damaged or lacks a column, or no image is left.
    """
    collector = Collector("nih", options)
    folder = options.tables_folder
    index = ImageIndex(options.root) if options.require_images else None
    if index is not None:
        collector.report.notice("image file with the name of an earlier one", index.twice)
    path = find_table(folder, "Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
    rows = list(read_table(path, _COLUMNS, collector.report))
    parts = _official_parts(folder, rows, options.seed) if options.split == "own" else {}
    kept: dict[str, str] = {}
    for number, row in rows:
        name = row["Image Index"]
        try:
            image = index.find(name) if index is not None else check_name(name)
        except PathError as error:
            collector.drop(error.reason, number)
            continue
        record = _read_row(number, row, image, parts.get(name, ""), collector)
        if record is not None and collector.add(record):
            kept[name] = image
            for label, value in record.labels.items():
                if value:
                    collector.add_finding(FindingRecord("image", image, record.study, label, rule="label"))
    _read_boxes(folder, kept, collector)
    return collector.finish()


def _read_row(number: int, row: Row, image: str, part: str, collector: Collector) -> ImageRecord | None:
    named = {label.strip() for label in row["Finding Labels"].split("|")} - {""}
    unknown = named - set(LABELS) - {NO_FINDING}
    if unknown or not named:
        collector.drop("label that is none of the 14" if unknown else "no label", number)
        return None
    labels: dict[str, int | None] = {label: int(label in named) for label in LABELS}
    if NO_FINDING in named and len(named) > 1:
        collector.report.notice("'No Finding' beside a finding: all labels unknown")
        labels = dict.fromkeys(LABELS)
    return ImageRecord(
        where=number,
        image=image,
        patient=row["Patient ID"].strip(),
        study=row["Image Index"].removesuffix(".png"),
        view=row["View Position"].strip(),
        labels=labels,
        part=part,
        age=parse_age(row["Patient Age"], collector.report),
        sex=parse_sex(row["Patient Gender"]),
    )


def _official_parts(folder: Path, rows: list[tuple[int, Row]], seed: int) -> dict[str, str]:
    """The part of each image name that the official lists hold."""
    names = {}
    for file in ("train_val_list.txt", "test_list.txt"):
        path = folder / file
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist; the data set's own split needs it")
        names[file] = set(path.read_text(encoding="utf-8").split())
    train_val, test = names.values()
    if train_val & test:
        raise ValueError(f"{folder}: {len(train_val & test)} images are in both official lists")
    patients = {row["Image Index"]: row["Patient ID"] for _, row in rows if row["Image Index"] in train_val}
    if not patients:
        return dict.fromkeys(test, PARTS[2])
    divided = part_of_rows(
        grouped_split([f"nih:{patient}" for patient in patients.values()], _TRAIN_OF_TRAIN_VAL, seed)
    )
    return dict.fromkeys(test, PARTS[2]) | dict(zip(patients, divided, strict=True))


def _read_boxes(folder: Path, kept: dict[str, str], collector: Collector) -> None:
    try:
        path = find_table(folder, "BBox_List_2017.csv")
    except FileNotFoundError:
        collector.report.notice("no BBox_List_2017.csv: no boxes")
        return
    for _, row in read_table(path, _BOX_COLUMNS, collector.report):
        image = kept.get(row["Image Index"])
        label = _BOX_NAMES.get(row["Finding Label"], row["Finding Label"])
        if image is None or label not in LABELS:
            collector.report.notice(
                "box of an image that is not kept" if image is None else "box of an unknown finding"
            )
            continue
        box = parse_fractions((row[column] for column in _BOX_COLUMNS[2:]), _SIDE, _SIDE)
        # The heart's box lies on both sides, and on one of them only by accident.
        side = "" if label == "Cardiomegaly" else side_of_box(box[0], box[2])
        collector.add_box(image, "finding", label, side, "image", box)
        study = row["Image Index"].removesuffix(".png")
        collector.add_finding(FindingRecord("image", image, study, label, laterality=side, rule="box"))
