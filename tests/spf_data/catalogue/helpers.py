"""Small manifests and findings for the catalogue's tests."""

from functools import cache

import pyarrow as pa
from spf_data.catalogue import Combination, load_rules
from spf_data.findings import Finding
from spf_data.manifest import BASE_SCHEMA, FINDING_SCHEMA, Manifest
from spf_data.vocabulary import load_vocabulary


@cache
def vocabulary():
    return load_vocabulary()


@cache
def rules():
    return load_rules(vocabulary())


def said(text):
    """A finding from "no left base+lower lobe|opacity": polarity, side and places may be left out."""
    place, _, core = text.rpartition("|")
    words = place.split()
    polarity = words.pop(0) if words and words[0] in ("yes", "no", "uncertain") else "yes"
    side = words.pop(0) if words and words[0] in ("left", "right", "bilateral") else ""
    anatomy = tuple(" ".join(words).split("+")) if words else ()
    return Finding(vocabulary().findings[core].kind, polarity, core, vocabulary().located(core, anatomy), side)


def label(text):
    """A combination from "left base|opacity" or "left|opacity"."""
    place, _, finding = text.partition("|")
    side, _, region = place.partition(" ")
    return Combination(finding, side, region)


def manifest_of(rows, source="padchest", **columns):
    """A manifest of rows p0.png, p1.png, ...: each its own patient and study, adult, PA, complete, unless said else."""
    base = {
        "image": [f"p{row}.png" for row in range(rows)],
        "patient": [f"{source}:{row}" for row in range(rows)],
        "study": [f"s{row}" for row in range(rows)],
        "view": ["PA"] * rows,
        "source": [source] * rows,
        "split": [("train", "validation", "test")[row % 3] for row in range(rows)],
        "complete": [True] * rows,
        "age": [50.0] * rows,
        "sex": ["F"] * rows,
    }
    return Manifest(pa.Table.from_pydict(base | columns, BASE_SCHEMA), {"source": source, "licence": "none"})


def findings_table(*rows, rule="test"):
    """Findings of a manifest: (row, finding, anatomy, laterality, polarity); the last three may be left out.

    A row that is a text is the study of that name.
    """
    records = []
    for row, finding, *rest in rows:
        anatomy, side, polarity = [*rest, *("", "", "yes")[len(rest) :]]
        study = isinstance(row, str)
        records.append(
            {
                "level": "study" if study else "image",
                "image": "" if study else f"p{row}.png",
                "study": row if study else f"s{row}",
                "kind": "",
                "finding": finding,
                "polarity": polarity,
                "anatomy": anatomy,
                "laterality": side,
                "modifiers": "",
                "span_start": None,
                "span_end": None,
                "rule": rule,
            }
        )
    return pa.Table.from_pylist(records, FINDING_SCHEMA)
