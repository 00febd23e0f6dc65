"""The manifest: one Parquet table that says, image by image, what a data set holds, and the two tables beside it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from spf_data.splits import PARTS, check_leakage, split_hash

VERSION = "1"
LABEL_PREFIX = "label:"

BASE_SCHEMA = pa.schema(
    [
        ("image", pa.string()),
        ("patient", pa.string()),
        ("study", pa.string()),
        ("view", pa.string()),
        ("source", pa.string()),
        ("split", pa.string()),
        ("complete", pa.bool_()),
        ("age", pa.float32()),
        ("sex", pa.string()),
    ]
)
FINDING_SCHEMA = pa.schema(
    [
        ("level", pa.string()),
        ("image", pa.string()),
        ("study", pa.string()),
        ("kind", pa.string()),
        ("finding", pa.string()),
        ("polarity", pa.string()),
        ("anatomy", pa.string()),
        ("laterality", pa.string()),
        ("modifiers", pa.string()),
        ("span_start", pa.int32()),
        ("span_end", pa.int32()),
        ("rule", pa.string()),
    ]
)
BOX_SCHEMA = pa.schema(
    [
        ("image", pa.string()),
        ("kind", pa.string()),
        ("finding", pa.string()),
        ("laterality", pa.string()),
        ("frame", pa.string()),
        ("x", pa.float32()),
        ("y", pa.float32()),
        ("w", pa.float32()),
        ("h", pa.float32()),
    ]
)


@dataclass(frozen=True)
class Manifest:
    """The images of a data set; the columns are documented in docs/data.md.

    Attributes:
        table: N rows: the columns of `BASE_SCHEMA`, then int8 columns `label:<name>` of 1, 0 and null (not known).
        info: What is known of the table as a whole, all strings: source, licence, citation, options, split_hash.

    Raises:
        TypeError: If a column has another type.
        ValueError: If a column is missing or unknown, there are no rows, a label is not 1, 0 or null, an image's path
            is not relative or occurs twice, a patient has no name, a part is unknown, a patient is in two parts, or
            `info` holds the hash of another split.
    """

    table: pa.Table
    info: dict[str, str]

    def __post_init__(self) -> None:
        _check_columns(self.table)
        _check_labels(self.table)
        _check_images(self.column("image"))
        patients, parts = self.column("patient"), self.column("split")
        if "" in patients:
            raise ValueError(f"patient must not be empty, got an empty one in row {patients.index('')}")
        unknown = sorted(set(parts) - set(PARTS))
        if unknown:
            raise ValueError(f"split must be one of {PARTS}, got {unknown[:5]}")
        check_leakage(patients, parts)
        found = split_hash(patients, parts)
        given = self.info.get("split_hash", found)
        if given != found:
            raise ValueError(f"split_hash must be that of the table's split, {found}, got {given}")
        object.__setattr__(self, "info", {**self.info, "split_hash": found})

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of the labels, in the order of the columns."""
        return tuple(name[len(LABEL_PREFIX) :] for name in self.table.column_names if name.startswith(LABEL_PREFIX))

    def column(self, name: str) -> list[str]:
        """A column of strings, by name (N,)."""
        return [str(value) for value in self.table.column(name).to_pylist()]

    def labels(self) -> npt.NDArray[np.float32]:
        """The labels: float32 (N, L) of 1, 0 and NaN (not known)."""
        labels = np.empty((len(self), len(self.label_names)), dtype=np.float32)
        for index, name in enumerate(self.label_names):
            column = self.table.column(LABEL_PREFIX + name).cast(pa.float32())
            labels[:, index] = column.to_numpy()
        return labels

    def rows(self) -> dict[str, npt.NDArray[np.int64]]:
        """Row numbers (int64, ascending) under "train", "validation" and "test"."""
        parts = np.array(self.column("split"), dtype=str)
        return {part: np.flatnonzero(parts == part) for part in PARTS}


def stays_inside(image: str) -> bool:
    """Whether a path is relative and, as written, does not lead out of the folder that it is relative to."""
    path = PurePosixPath(image)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and not {"\\", "\0"} & set(image)


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write `manifest` as Parquet, atomically; `info` goes to the file's metadata."""
    metadata = {b"spf_data": VERSION.encode()}
    metadata |= {f"spf_data.{key}".encode(): value.encode() for key, value in manifest.info.items()}
    write_table(path, manifest.table.replace_schema_metadata(metadata))


def read_manifest(path: Path) -> Manifest:
    """Read what `write_manifest` wrote, and check it again.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a Parquet file, not a manifest, of another version, or not a valid one.
    """
    table = read_table(path)
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    if metadata.get("spf_data") != VERSION:
        raise ValueError(f"{path} must be a manifest of version {VERSION}, got {metadata.get('spf_data')!r}")
    prefix = "spf_data."
    info = {key[len(prefix) :]: value for key, value in metadata.items() if key.startswith(prefix)}
    return Manifest(table.replace_schema_metadata(None), info)


def read_table(path: Path) -> pa.Table:
    """Read a Parquet file whole.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a Parquet file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        return pq.ParquetFile(path).read()
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} is not a readable Parquet file: {error}") from error


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table as Parquet, atomically."""
    with open_atomically(path) as opened:
        pq.write_table(table, opened, compression="zstd")


@contextmanager
def open_atomically(path: Path) -> Iterator[BinaryIO]:
    """A file to write in the folder of `path`, which becomes `path` when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as opened:
            yield opened
            opened.flush()
            os.fsync(opened.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _check_columns(table: pa.Table) -> None:
    names = table.column_names
    missing = [name for name in BASE_SCHEMA.names if name not in names]
    if missing:
        raise ValueError(f"the manifest lacks the columns {missing}")
    if len(set(names)) < len(names):
        raise ValueError(f"the manifest's columns must have different names, got {names}")
    unknown = [name for name in names if name not in BASE_SCHEMA.names and not name.startswith(LABEL_PREFIX)]
    if unknown:
        raise ValueError(f"the manifest has unknown columns {unknown}; labels start with {LABEL_PREFIX!r}")
    for name in names:
        wanted = BASE_SCHEMA.field(name).type if name in BASE_SCHEMA.names else pa.int8()
        if table.schema.field(name).type != wanted:
            raise TypeError(f"column {name} must be {wanted}, got {table.schema.field(name).type}")
    for name in BASE_SCHEMA.names:
        if name != "age" and table.column(name).null_count:
            raise ValueError(f"column {name} must have no nulls, got {table.column(name).null_count}")
    if table.num_rows == 0:
        raise ValueError("the manifest must have rows, got none")


def _check_labels(table: pa.Table) -> None:
    for name in table.column_names:
        if name.startswith(LABEL_PREFIX):
            values = set(pc.unique(table.column(name)).to_pylist())
            if not values <= {0, 1, None}:
                raise ValueError(f"column {name} must hold 1, 0 and null, got {sorted(values - {0, 1, None})[:5]}")


def _check_images(images: list[str]) -> None:
    if len(set(images)) < len(images):
        raise ValueError(f"images must differ, got {len(images) - len(set(images))} paths more than once")
    for row, image in enumerate(images):
        if not stays_inside(image):
            raise ValueError(f"image must be a path relative to the root, without '..', got another in row {row}")
