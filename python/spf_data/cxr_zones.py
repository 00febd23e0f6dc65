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

from spf_data.dataset import XrayDataset
from spf_data.labels import Label, LabelSet, Side

OnError = Literal["raise", "skip"]

_SIDES: dict[Side, str] = {"right": "R", "left": "L"}
_ZONES = {"upper": "U", "middle": "M", "lower": "L"}
_PLACES = [(side, zone) for side in _SIDES for zone in _ZONES]
LABEL_SET = LabelSet(tuple(Label(f"{side} {zone} zone opacity", "opacity", side, zone) for side, zone in _PLACES))
LABEL_COLUMNS = [f"op_{_SIDES[side]}{_ZONES[zone]}" for side, zone in _PLACES]
LUNG_COLUMNS = ["lung_right", "lung_left"]
REQUIRED_COLUMNS = ["image", "source", "group", *LABEL_COLUMNS, *LUNG_COLUMNS]

_LABEL_VALUES = {"": np.nan, "0": 0.0, "1": 1.0}
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
    patient: str
    source: str


class CxrZonesDataset(XrayDataset):
    """Frontal radiographs with six zone labels; `patients` is the table's column `group`.

    Attributes:
        lung_boxes: float32 (N, 2, 4) boxes (x, y, width, height) of right and left lung in pixels of the resized
            images; NaN where not known.
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
        self.lung_boxes = np.stack([row.lung_boxes for row in rows])
        super().__init__(
            label_set=LABEL_SET,
            images=np.stack([row.image for row in rows])[:, None],
            labels=np.stack([row.labels for row in rows]),
            patients=np.array([row.patient for row in rows]),
            sources=np.array([row.source for row in rows]),
            report=report,
        )


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
    image = _read_image(root, record["image"])
    boxes = np.stack([_lung_box(column, record[column]) for column in LUNG_COLUMNS])
    return _Row(
        image=np.asarray(image.resize((image_size, image_size), Image.Resampling.LANCZOS), dtype=np.uint8),
        labels=labels,
        lung_boxes=boxes * np.float32(image_size / image.width),
        patient=record["group"],
        source=record["source"],
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
        box = np.array(json.loads(text), dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise _RowError("invalid lung box", f"{column} must be [x, y, width, height], got {text!r}") from error
    if box.shape != (4,) or not np.isfinite(box).all():
        raise _RowError("invalid lung box", f"{column} must be four finite numbers, got {text!r}")
    return box
