"""The cxr-zones data set: real frontal radiographs with an opacity label for each of six lung zones."""

import csv
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from spf_data.boxes import box_mask
from spf_data.dataset import XrayDataset
from spf_data.labels import Label, LabelSet, Side

OnError = Literal["raise", "skip"]

_SIDES: dict[Side, str] = {"right": "R", "left": "L"}
_ZONES = {"upper": "U", "middle": "M", "lower": "L"}
_PLACES = [(side, zone) for side in _SIDES for zone in _ZONES]
LABEL_SET = LabelSet(tuple(Label(f"{side} {zone} zone opacity", "opacity", side, zone) for side, zone in _PLACES))
LABEL_COLUMNS = [f"op_{_SIDES[side]}{_ZONES[zone]}" for side, zone in _PLACES]
LUNG_COLUMNS = ["lung_right", "lung_left"]
REQUIRED_COLUMNS = ["image", "source", "group", *LABEL_COLUMNS, *LUNG_COLUMNS, "lung_source"]

# Not every table has these: what is missing is unknown.
_ATTRIBUTES = {"sex": "sex", "age": "age", "view": "projection"}

_LABEL_VALUES = {"": np.nan, "0": 0.0, "1": 1.0}
_LUNG_SOURCES = ("", "radiologist", "predicted")
NO_LABELS = "no zone labels"


class _RowError(ValueError):
    """A row that can not be used; `reason` is what the report counts it under."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class _Row:
    image: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.float32]
    lung_boxes: npt.NDArray[np.float32]
    lung_source: str
    patient: str
    source: str
    finding_boxes: npt.NDArray[np.float32]
    attributes: dict[str, str]


class CxrZonesDataset(XrayDataset):
    """Frontal radiographs with six zone labels; `patients` is the table's column `group`.

    Attributes:
        lung_sources: str (N,): who drew the lung boxes, "radiologist" or "predicted" (by a network); "" where unknown.
        finding_boxes: For each row float32 (boxes, 4), opacities that radiologists of the RSNA marked: x, y, width and
            height as shares of the image's side.
    """

    def __init__(
        self,
        root: Path | str,
        image_size: int = 128,
        on_error: OnError = "raise",
        *,
        require_labels: bool = True,
    ) -> None:
        """Read `labels.csv` and the images it names.

        Args:
            root: Folder that holds `labels.csv`; the paths in it are relative to this folder.
            image_size: Images are resized to this many pixels a side (antialiased).
            on_error: What to do about a row with an unusable label, path, image or lung box: "raise", or "skip" it and
                count it in `report`. A missing file or column of the table itself always raises.
            require_labels: Leave out rows without a single known zone label, and count them in `report`.

        Raises:
            FileNotFoundError: If there is no `labels.csv`.
            ValueError: If an argument is invalid, a column is missing, no row is left, or a row is unusable and
                `on_error` is "raise"; the message names file and row (1 is the first below the header).
        """
        if image_size < 1:
            raise ValueError(f"image_size must be positive, got {image_size}")
        if on_error not in get_args(OnError):
            raise ValueError(f"on_error must be one of {get_args(OnError)}, got {on_error!r}")
        table = Path(root).resolve() / "labels.csv"
        rows, report = _read_rows(table, image_size, on_error, require_labels)
        if not rows:
            raise ValueError(f"{table} has no usable row; dropped: {report}")
        self.lung_sources = np.array([row.lung_source for row in rows])
        self.finding_boxes = [row.finding_boxes for row in rows]
        super().__init__(
            label_set=LABEL_SET,
            images=np.stack([row.image for row in rows])[:, None],
            labels=np.stack([row.labels for row in rows]),
            patients=np.array([row.patient for row in rows]),
            sources=np.array([row.source for row in rows]),
            report=report,
            lung_boxes=np.stack([row.lung_boxes for row in rows]),
            attributes={name: np.array([row.attributes[name] for row in rows]) for name in _ATTRIBUTES},
        )

    def mask(self, index: int) -> npt.NDArray[np.bool_]:
        """Where each label's opacity is: bool (L, H, W), the marked boxes within the label's third of its lung.

        The thirds end at the middle between the lungs and have no outer border. Empty for labels that are not present,
        and where no box or no lung is known.

        Raises:
            IndexError: If there is no such row.
        """
        row = self._row(index)
        size = self.image_size
        masks = np.zeros((len(LABEL_SET), size, size), dtype=bool)
        lungs = self.lung_boxes[row].numpy() * size
        if np.isnan(lungs).any():
            return masks
        centre = np.arange(size) + 0.5
        marked = box_mask(self.finding_boxes[row], size)
        # the patient's right lung is on the image's left
        middle = (lungs[0, 0] + lungs[0, 2] + lungs[1, 0]) / 2
        for column, (side, zone) in enumerate(_PLACES):
            if self.labels[row, column] == 1:
                _, top, _, height = lungs[list(_SIDES).index(side)]
                start = top + height / 3 * list(_ZONES).index(zone)
                rows = (centre >= start) & (centre < start + height / 3)
                masks[column] = marked & rows[:, None] & ((centre < middle) == (side == "right"))
        return masks


def _read_rows(
    table: Path, image_size: int, on_error: OnError, require_labels: bool
) -> tuple[list[_Row], dict[str, int]]:
    """The usable rows, and how many were left out for which reason."""
    rows: list[_Row] = []
    report: Counter[str] = Counter()
    for number, record in enumerate(_read_table(table), start=1):
        try:
            labels = _labels(record)
            if require_labels and np.isnan(labels).all():
                report[NO_LABELS] += 1
                continue
            rows.append(_read_row(table.parent, record, labels, image_size))
        except _RowError as error:
            if on_error == "raise":
                raise ValueError(f"{table}, row {number}: {error}") from error
            report[error.reason] += 1
    return rows, dict(report)


def _read_table(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; root must be the folder that holds labels.csv")
    with path.open(newline="", encoding="utf-8") as opened:
        try:
            reader = csv.DictReader(opened, strict=True)
            records = list(reader)
            columns = reader.fieldnames or []
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not a valid CSV file: {error}") from error
    missing = [column for column in REQUIRED_COLUMNS if column not in columns]
    if missing:
        raise ValueError(f"{path} lacks the columns {missing}")
    return records


def _labels(record: dict[str, str]) -> npt.NDArray[np.float32]:
    # The csv module files surplus fields under None, and fills absent ones with None.
    if None in record or None in record.values():
        raise _RowError("malformed row", "the number of fields differs from that of the header")
    for column in LABEL_COLUMNS:
        if record[column] not in _LABEL_VALUES:
            raise _RowError("invalid label", f"{column} must be 0, 1 or empty, got {record[column]!r}")
    return np.array([_LABEL_VALUES[record[column]] for column in LABEL_COLUMNS], dtype=np.float32)


def _read_row(root: Path, record: dict[str, str], labels: npt.NDArray[np.float32], image_size: int) -> _Row:
    if not record["group"]:
        raise _RowError("missing group", "group must not be empty: rows could not be split by patient")
    if record["lung_source"] not in _LUNG_SOURCES:
        raise _RowError(
            "invalid lung source", f"lung_source must be one of {_LUNG_SOURCES}, got {record['lung_source']!r}"
        )
    image = _read_image(root, record["image"])
    boxes = np.stack([_lung_box(column, record[column]) for column in LUNG_COLUMNS])
    return _Row(
        image=np.asarray(image.resize((image_size, image_size), Image.Resampling.LANCZOS), dtype=np.uint8),
        labels=labels,
        lung_boxes=boxes / np.float32(image.width),
        lung_source=record["lung_source"],
        patient=record["group"],
        source=record["source"],
        finding_boxes=_finding_boxes(record.get("boxes", "")) / np.float32(image.width),
        # "AP Supine" and the like are views from the front, too
        attributes={name: record.get(column, "").partition(" ")[0] for name, column in _ATTRIBUTES.items()},
    )


def _read_image(root: Path, name: str) -> Image.Image:
    try:
        path = (root / name).resolve()
        if not path.is_relative_to(root):
            raise _RowError("path outside root", f"image {name!r} lies outside {root}")
        with Image.open(path) as opened:
            if opened.mode not in ("L", "RGB"):
                raise _RowError(
                    "unreadable image", f"image {path} must have 8 bits a channel, got mode {opened.mode!r}"
                )
            grey: Image.Image = opened.convert("L")
    except FileNotFoundError as error:
        raise _RowError("missing image", f"image {name!r} does not exist in {root}") from error
    except _RowError:
        raise
    # Pillow reports damage as any of these, and the operating system an impossible name as the second.
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _RowError("unreadable image", f"image {name!r} in {root} can not be read: {error}") from error
    if grey.width != grey.height:
        raise _RowError("image not square", f"image {path} must be square, got {grey.width}x{grey.height}")
    return grey


def _lung_box(column: str, text: str) -> npt.NDArray[np.float32]:
    """Box (4,) in the original image's pixels; NaN where the text is empty."""
    if not text:
        return np.full(4, np.nan, dtype=np.float32)
    try:
        return _box(json.loads(text))
    except ValueError as error:
        raise _RowError("invalid lung box", f"{column} must be [x, y, width, height]: {error}, got {text!r}") from error


def _finding_boxes(text: str) -> npt.NDArray[np.float32]:
    """Boxes (boxes, 4) of the RSNA's radiologists in the original image's pixels."""
    try:
        entries = json.loads(text or "[]")
        boxes = [_box(entry["box"]) for entry in entries if entry["src"] == "rsna"]
    except (TypeError, KeyError, ValueError) as error:
        raise _RowError(
            "invalid finding box", f"boxes must be objects with src and box: {error}, got {text!r}"
        ) from error
    return np.array(boxes, dtype=np.float32).reshape(-1, 4)


def _box(value: object) -> npt.NDArray[np.float32]:
    """x, y, width, height (4,).

    Raises:
        ValueError: If the value is no box with an area.
    """
    try:
        box = np.array(value, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError("no list of numbers") from error
    if box.shape != (4,) or not np.isfinite(box).all():
        raise ValueError("not four finite numbers")
    if min(box[2:]) <= 0:
        raise ValueError("no positive width and height")
    return box
