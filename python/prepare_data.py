"""From a data set as downloaded to its manifest: `python python/prepare_data.py SOURCE --root FOLDER --output FILE`."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from spf_data.reports import label_report
from spf_data.sources import LICENCES, SOURCES, Prepared, PrepareOptions, write_prepared
from spf_data.vocabulary import load_vocabulary


def main(arguments: Sequence[str]) -> int:
    """Prepare one data set as the arguments say; 0, or 2 after an error that a user can do something about."""
    parsed = _parser().parse_args(arguments)
    try:
        prepared = SOURCES[parsed.source](_options(parsed))
        written = write_prepared(parsed.output, prepared)
    except (OSError, ValueError) as error:
        print(f"{parsed.source}: {error}", file=sys.stderr)
        return 2
    print(_text(parsed.source, prepared))
    print("\n".join(f"wrote {path}" for path in written))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    sources = parser.add_subparsers(dest="source", required=True, metavar="SOURCE")
    for name in SOURCES:
        licence = LICENCES[name]
        source = sources.add_parser(name, help=licence.url, description=str(licence))
        _add_arguments(source)
        _add_special_arguments(source, name)
    return parser


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    defaults = PrepareOptions(root=Path())
    parser.add_argument("--root", type=Path, required=True, help="folder of the images")
    parser.add_argument("--output", type=Path, required=True, help="the manifest, ends with .parquet")
    parser.add_argument("--tables", type=Path, help="folder of the label tables, if it is another one")
    parser.add_argument("--no-images", action="store_true", help="do not ask for the images to be there")
    parser.add_argument("--views", choices=("frontal", "all"), default=defaults.views)
    parser.add_argument("--split", choices=("hash", "own"), default=defaults.split, help="own: the data set's")
    parser.add_argument(
        "--fractions", type=float, nargs=3, default=defaults.fractions, metavar=("TRAIN", "VAL", "TEST")
    )
    parser.add_argument("--seed", type=int, default=defaults.seed, help="of the split by hash")
    parser.add_argument(
        "--patient-salt-file", type=Path, help="file with a secret: patients are named by a hash that needs it"
    )


def _add_special_arguments(parser: argparse.ArgumentParser, source: str) -> None:
    """What only some sources understand; the others refuse it."""
    defaults = PrepareOptions(root=Path())
    parser.set_defaults(
        label_reports=False, reports=None, uncertain=defaults.uncertain, not_mentioned=defaults.not_mentioned
    )
    if source in ("mimic-cxr", "open-i"):
        parser.add_argument("--label-reports", action="store_true", help="read findings from the reports")
    if source in ("mimic-cxr", "own"):
        parser.add_argument("--uncertain", choices=("unknown", "positive", "negative"), help="what -1 becomes")
    if source == "mimic-cxr":
        parser.add_argument("--not-mentioned", choices=("unknown", "negative"), help="what an empty label becomes")
        parser.add_argument("--reports", type=Path, help="zip file or folder, if they are not among the tables")


def _options(parsed: argparse.Namespace) -> PrepareOptions:
    salt = ""
    if parsed.patient_salt_file is not None:
        salt = parsed.patient_salt_file.read_text(encoding="utf-8").strip()
        if len(salt) < 16:
            raise ValueError(f"patient-salt-file must hold at least 16 characters, got {len(salt)}")
    return PrepareOptions(
        root=parsed.root,
        tables=parsed.tables,
        reports=parsed.reports,
        require_images=not parsed.no_images,
        views=parsed.views,
        split=parsed.split,
        fractions=tuple(parsed.fractions),
        seed=parsed.seed,
        uncertain=parsed.uncertain,
        not_mentioned=parsed.not_mentioned,
        patient_salt=salt,
        label_report=partial(label_report, vocabulary=load_vocabulary()) if parsed.label_reports else None,
    )


def _text(source: str, prepared: Prepared) -> str:
    report, manifest = prepared.report, prepared.manifest
    lines = [str(LICENCES[source]), "", f"{report.read:,} images read, {report.kept:,} kept"]
    lines += [f"  {count:,} dropped: {reason}" for reason, count in report.dropped.most_common()]
    lines += [f"  {count:,} times: {what}" for what, count in report.noticed.most_common()]
    for name, table in report.tables.items():
        for what, rows in (("malformed rows left out", table.malformed), ("rows not in UTF-8", table.not_utf8)):
            lines += [f"  {name}: {len(rows):,} {what}"] if rows else []
    parts = ", ".join(f"{part} {len(rows):,}" for part, rows in manifest.rows().items())
    patients = len(set(manifest.column("patient")))
    lines += [f"{patients:,} patients; {parts}; split {manifest.info['split_hash'][:12]}"]
    findings, boxes = prepared.findings.num_rows, prepared.boxes.num_rows
    lines += [f"{len(manifest.label_names)} labels, {findings:,} findings, {boxes:,} boxes"]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
