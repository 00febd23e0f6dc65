"""The files of a catalogue, and what is printed of it."""

import csv
import io
from pathlib import Path
from typing import Any

from spf_data.catalogue.catalogue import Catalogue
from spf_data.catalogue.counting import Count
from spf_data.catalogue.label_set_file import LabelSetFile, label_set_text
from spf_data.catalogue.tables import label_table, part_table, place_table
from spf_data.manifest import open_atomically, write_manifest
from spf_data.splits import PARTS

MANIFEST = "manifest.parquet"
LABEL_SET = "label_set.yaml"
FULL_LIST = "catalogue.csv"
TABLES = "tables.md"
UNREAD = "unread.csv"
_NONE = Count(0, 0, 0)


def write_catalogue(folder: Path, catalogue: Catalogue) -> list[Path]:
    """Write `catalogue.csv`, `unread.csv`, `tables.md`, `label_set.yaml` and `manifest.parquet`, the manifest last.

    The same catalogue gives the same bytes.

    Returns:
        The files written.
    """
    (folder / MANIFEST).unlink(missing_ok=True)
    texts = {
        FULL_LIST: full_list(catalogue),
        UNREAD: unread_list(catalogue),
        TABLES: _tables(catalogue),
        LABEL_SET: _label_set(catalogue),
    }
    for name, text in texts.items():
        with open_atomically(folder / name) as opened:
            opened.write(text.encode())
    write_manifest(folder / MANIFEST, catalogue.manifest)
    return [folder / name for name in (*texts, MANIFEST)]


def full_list(catalogue: Catalogue) -> str:
    """Every combination with its counts, as CSV; `label` is its name where it was chosen, else `why_not` says why."""
    rows: list[tuple[Any, ...]] = [("finding", "side", "region", "images", "studies", "patients", "label", "why_not")]
    for place, count in catalogue.counts.items():
        name = catalogue.rules.name(place) if place in catalogue.selection.chosen else ""
        why_not = catalogue.selection.reasons[place]
        rows.append((*place, count.images, count.studies, count.patients, name, why_not))
    return _csv(rows)


def unread_list(catalogue: Catalogue) -> str:
    """What stood for nothing in the vocabulary, with the number of the source's rows, as CSV."""
    unread = catalogue.unread
    counts = [("finding not mapped", name, "", count) for name, count in unread.findings.items()]
    counts += [("place not mapped", name, "", count) for name, count in unread.places.items()]
    counts += [("place left out: not one of the finding", *key, count) for key, count in unread.not_there.items()]
    counts += [("side left out: without meaning for the finding", name, "", n) for name, n in unread.sides.items()]
    ordered = sorted(counts, key=lambda row: (row[0], -row[3], row[1], row[2]))
    return _csv([("what", "word", "place", "rows"), *ordered])


def summary(catalogue: Catalogue) -> str:
    """The counts, for people."""
    manifest, counts = catalogue.manifest, catalogue.counts
    patients = len(set(manifest.column("patient")))
    lines = [f"{len(manifest):,} frontal images of adults, {patients:,} patients"]
    lines += [f"  {count:,} {reason}" for reason, count in catalogue.left_out.items() if count]
    lines += [f"{len(counts):,} combinations of finding, side and region are said to be there"]
    lines += [
        f"  {sum(n.images >= least for n in counts.values()):,} on {least} images or more" for least in (20, 100, 500)
    ]
    findings, places = (sum(words.values()) for words in (catalogue.unread.findings, catalogue.unread.places))
    lines += [f"{findings:,} findings and {places:,} places are not mapped: {UNREAD}"]
    some = catalogue.any_present()
    lines += [f"{len(catalogue.label_set)} labels, said of the {catalogue.level}"]
    lines += [f"  one is present on {some.images:,} images of {some.patients:,} patients"]
    lines += ["", "  as said  present  absent  not known  label"]
    for place in catalogue.selection.chosen:
        name = catalogue.rules.name(place)
        values = catalogue.values[name]
        said = counts.get(place, _NONE).images
        numbers = f"{said:9,} {values['present']:8,} {values['absent']:7,} {values['not_known']:10,}"
        lines += [f"{numbers}  {name}{' (always in)' if place in catalogue.rules.always else ''}"]
    lines += ["", f"label set {LabelSetFile(catalogue.selection.chosen).hash[:12]}"]
    return "\n".join(lines)


def _label_set(catalogue: Catalogue) -> str:
    of_parts = {part: catalogue.present(part) for part in PARTS}
    whole = catalogue.present()
    counts: dict[str, dict[str, int]] = {}
    for place in catalogue.selection.chosen:
        name = catalogue.rules.name(place)
        said = catalogue.counts.get(place, _NONE)
        counts[name] = {"images_as_said": said.images, "patients_as_said": said.patients}
        counts[name] |= {**catalogue.values[name], "patients": whole[name].patients}
        counts[name] |= {f"present_{part}": found[name].images for part, found in of_parts.items()}
    info = catalogue.manifest.info
    about = {name: info[name] for name in ("source", "options", "catalogue", "split_hash") if name in info}
    return label_set_text(LabelSetFile(catalogue.selection.chosen), catalogue.rules, counts, about)


def _tables(catalogue: Catalogue) -> str:
    tables = {
        "Labels": label_table(catalogue),
        "Parts of the split": part_table(catalogue),
        "Findings by place": place_table(catalogue, catalogue.options.rule.minimum_images),
    }
    return "\n".join(f"## {title}\n\n{table}" for title, table in tables.items())


def _csv(rows: list[tuple[Any, ...]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
