"""Your own images: one CSV file, `labels.csv`, with a row an image.

| column | |
|---|---|
| `image` | path relative to the root |
| `patient` | who it is: the split is by patient |
| `label:<name>` | one column a label, at least one: `1`, `0`, `-1` (uncertain) or empty (not known) |
| `study` | optional: images of one examination |
| `view` | optional: `PA`, `AP`, `AP supine`, `frontal`, `lateral`; without the column all are taken as frontal |
| `split` | optional: `train`, `validation`, `test`, used with `split="own"` |
| `age`, `sex` | optional: years, and `F` or `M` |
| `source` | optional: collection within the file |
"""

from spf_data.manifest import LABEL_PREFIX
from spf_data.sources.collect import FRONTAL_VIEWS, Collector, ImageRecord, Prepared
from spf_data.sources.options import PrepareOptions
from spf_data.sources.tables import Row, find_table, read_table
from spf_data.sources.values import parse_age, parse_label, parse_sex

TABLE = "labels.csv"
OPTIONAL_COLUMNS = ("study", "view", "split", "age", "sex", "source")
_REQUIRED = ("image", "patient")


def prepare(options: PrepareOptions) -> Prepared:
    """Make the manifest of your own images. Labels are of the image; an empty one is not known.

    Args:
        options: What every adapter is told; `tables` may name the CSV file itself.

    Raises:
        FileNotFoundError: If there is no CSV file.
        ValueError: If it is damaged, lacks or has another column, or no image is left.
    """
    collector = Collector("own", options)
    folder = options.tables_folder
    table = folder if folder.is_file() else find_table(folder, TABLE)
    names: list[str] = []
    for number, row in read_table(table, _REQUIRED, collector.report):
        if not names:
            names = _label_names(row)
            if "view" not in row:
                collector.report.notice("no column view: every image taken as frontal")
        record = _record(number, row, names, options, collector)
        if record is not None:
            collector.add(record)
    return collector.finish()


def _label_names(row: Row) -> list[str]:
    names = [column for column in row if column.startswith(LABEL_PREFIX)]
    unknown = [column for column in row if column not in (*_REQUIRED, *OPTIONAL_COLUMNS, *names)]
    if unknown:
        raise ValueError(f"columns {unknown} are unknown; labels start with {LABEL_PREFIX!r}")
    if not names or LABEL_PREFIX in names:
        raise ValueError(f"there must be a column {LABEL_PREFIX}<name> for each label, got {names}")
    return names


def _record(
    number: int, row: Row, names: list[str], options: PrepareOptions, collector: Collector
) -> ImageRecord | None:
    view = row.get("view", "frontal").strip()
    if view and view not in (*FRONTAL_VIEWS, "lateral"):
        collector.drop(f"view must be one of {(*FRONTAL_VIEWS, 'lateral')} or empty", number)
        return None
    try:
        labels = {name[len(LABEL_PREFIX) :]: parse_label(row[name], options.uncertain) for name in names}
    except ValueError:
        collector.drop("label other than 1, 0, -1 or empty", number)
        return None
    return ImageRecord(
        where=number,
        image=row["image"].strip(),
        patient=row["patient"].strip(),
        study=row.get("study", "").strip(),
        view=view,
        labels=labels,
        complete=False,
        part=row.get("split", "").strip(),
        age=parse_age(row.get("age", ""), collector.report),
        sex=parse_sex(row.get("sex", "")),
        part_of_source=row.get("source", "").strip(),
    )
