"""CSV files as they really are: gzipped or not, with a byte order mark, in Latin-1, cut short."""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from spf_data.sources.report import PrepareReport

# The longest line that any of the public tables has is below 20 kB.
MAX_LINE = 1_000_000
_ESCAPED = re.compile("[\udc80-\udcff]")

Row = dict[str, str]


def find_table(folder: Path, *names: str) -> Path:
    """The first of `names` that is in `folder`, as it is or gzipped.

    Raises:
        FileNotFoundError: If none is.
    """
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise FileNotFoundError(f"{folder} holds none of {', '.join(names)} (or the same with .gz)")


def read_table(
    path: Path, required: Sequence[str], report: PrepareReport, delimiter: str = ","
) -> Iterator[tuple[int, Row]]:
    """The rows of a CSV file with their numbers (1 is the first below the header).

    Empty columns at the end of the header, and of rows, are ignored. Rows with another number of fields are left out,
    and bytes that are not UTF-8 are read as Latin-1; `report` counts both.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, not text, has no rows, names a column twice, or lacks one that is required;
            the message names file and column.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    counts = report.table(path.name)
    lines = _Lines(path)
    try:
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        header = _read_header(path, next(reader, []), required)
        lines.escaped = False
        for number, fields in enumerate(reader, start=1):
            counts.rows += 1
            if lines.escaped:
                counts.not_utf8.append(number)
                fields = [_as_latin1(value) for value in fields]
                lines.escaped = False
            if len(fields) < len(header) or any(fields[len(header) :]):
                counts.malformed.append(number)
                continue
            yield number, dict(zip(header, fields, strict=False))
    except (csv.Error, EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is damaged, or not a CSV file, after row {counts.rows}: {error}") from error
    if not counts.rows:
        raise ValueError(f"{path} has no rows below its header")


def _read_header(path: Path, fields: list[str], required: Sequence[str]) -> list[str]:
    header = [name.strip() for name in fields]
    while header and not header[-1]:
        header.pop()
    if not header:
        raise ValueError(f"{path} is empty: it has no header")
    missing = [name for name in required if name not in header]
    if missing:
        raise ValueError(f"{path} lacks the columns {missing}; it has {header[:40]}")
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise ValueError(f"{path} names the columns {twice} more than once")
    return header


def _as_latin1(value: str) -> str:
    # Undone whole: a field that mixes two encodings has no right reading, and this one loses nothing.
    return value.encode("utf-8", "surrogateescape").decode("latin-1") if _ESCAPED.search(value) else value


class _Lines:
    """The lines of a text file, gzipped or not; `escaped` turns true when one of them was not UTF-8."""

    def __init__(self, path: Path) -> None:
        self.escaped = False
        self._path = path

    def __iter__(self) -> Iterator[str]:
        with self._path.open("rb") as raw:
            zipped = raw.peek(2)[:2] == b"\x1f\x8b"
            binary = gzip.GzipFile(fileobj=raw) if zipped else raw
            text = io.TextIOWrapper(binary, encoding="utf-8-sig", errors="surrogateescape", newline="")
            while line := text.readline(MAX_LINE):
                if len(line) >= MAX_LINE:
                    raise ValueError(f"{self._path} has a line of more than {MAX_LINE} characters")
                if "\0" in line:
                    raise ValueError(f"{self._path} holds zero bytes: it is not text in UTF-8 or Latin-1")
                if not line.isascii() and _ESCAPED.search(line):
                    self.escaped = True
                yield line
