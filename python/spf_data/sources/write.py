"""The files that a prepared data set is kept in."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from spf_data.manifest import LABEL_PREFIX, open_atomically, write_manifest, write_table
from spf_data.sources.collect import Prepared


def write_prepared(path: Path, prepared: Prepared) -> list[Path]:
    """Write the manifest to `path`, and beside it `.findings.parquet`, `.boxes.parquet` and `.report.json`.

    A table without rows is not written. The manifest goes first and comes last: where it is, the others belong to it.

    Args:
        path: Ends with ".parquet".
        prepared: What an adapter made.

    Returns:
        The files written.

    Raises:
        ValueError: If `path` has another ending.
    """
    if path.suffix != ".parquet":
        raise ValueError(f"output must end with .parquet, got {path.name!r}")
    path.unlink(missing_ok=True)
    written = []
    for name, table in (("findings", prepared.findings), ("boxes", prepared.boxes)):
        beside = path.with_suffix(f".{name}.parquet")
        beside.unlink(missing_ok=True)
        if table.num_rows:
            write_table(beside, table)
            written.append(beside)
    report = path.with_suffix(".report.json")
    with open_atomically(report) as opened:
        opened.write((json.dumps(summary(prepared), indent=2, ensure_ascii=False) + "\n").encode())
    write_manifest(path, prepared.manifest)
    return [path, *written, report]


def summary(prepared: Prepared) -> dict[str, Any]:
    """What the report's file says: where the manifest is from, what was dropped, and what it holds."""
    manifest = prepared.manifest
    patients = manifest.column("patient")
    parts = {
        part: {"images": len(rows), "patients": len({patients[row] for row in rows})}
        for part, rows in manifest.rows().items()
    }
    return {
        **manifest.info,
        **prepared.report.as_json(),
        "patients": len(set(patients)),
        "studies": len(set(manifest.column("study")) - {""}),
        "parts": parts,
        "views": _counts(manifest.table["view"]),
        "sources": _counts(manifest.table["source"]),
        "labels": _label_counts(prepared),
        "findings": _counts(prepared.findings["level"]),
        "boxes": prepared.boxes.num_rows,
    }


def _counts(column: pa.ChunkedArray) -> dict[Any, int]:
    """How often each value occurs, the most frequent first."""
    counts = {entry["values"]: entry["counts"] for entry in column.value_counts().to_pylist()}
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _label_counts(prepared: Prepared) -> dict[str, dict[str, int]]:
    counts = {}
    for name in prepared.manifest.label_names:
        found = _counts(prepared.manifest.table[LABEL_PREFIX + name])
        counts[name] = {"present": found.get(1, 0), "absent": found.get(0, 0), "not known": found.get(None, 0)}
    return counts
