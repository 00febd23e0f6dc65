"""Which findings a prepared data set has where, and a set of labels from it: `python python/catalogue.py --help`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from spf_data.catalogue import (
    CatalogueOptions,
    Policies,
    Rules,
    SelectionRule,
    load_rules,
    make_catalogue,
    read_label_set,
    summary,
    write_catalogue,
)
from spf_data.catalogue.labelling import NotMentioned, Uncertain, Unplaced
from spf_data.catalogue.statements import Origin
from spf_data.manifest import read_manifest, read_table
from spf_data.vocabulary import load_vocabulary


def main(arguments: Sequence[str]) -> int:
    """Make one catalogue as the arguments say; 0, or 2 after an error that a user can do something about."""
    parsed = _parser().parse_args(arguments)
    try:
        rules = load_rules(load_vocabulary())
        manifest = read_manifest(parsed.manifest)
        findings = read_table(parsed.manifest.with_suffix(".findings.parquet"))
        catalogue = make_catalogue(manifest, findings, rules, _options(parsed, rules))
        written = write_catalogue(parsed.output, catalogue)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(summary(catalogue))
    print("\n".join(f"wrote {path}" for path in written))
    return 0


def _parser() -> argparse.ArgumentParser:
    options = CatalogueOptions()
    rule, policies = options.rule, options.policies
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path, help="what prepare_data.py wrote; its .findings.parquet is beside it")
    parser.add_argument("--output", type=Path, required=True, help="folder for the catalogue, label set and manifest")
    parser.add_argument("--labels", type=int, default=rule.labels, help="number of labels (default: %(default)s)")
    parser.add_argument("--minimum-images", type=int, default=rule.minimum_images, help="of a label (%(default)s)")
    parser.add_argument("--minimum-patients", type=int, default=rule.minimum_patients, help="of a label (%(default)s)")
    parser.add_argument("--label-set", type=Path, help="use the labels of this label_set.yaml instead of choosing some")
    parser.add_argument("--minimum-age", type=float, default=options.minimum_age, help="in years (%(default)s)")
    parser.add_argument(
        "--origin",
        choices=get_args(Origin),
        default=options.origin,
        help="the source's own labels, those read in reports, or both (%(default)s)",
    )
    parser.add_argument(
        "--uncertain",
        choices=get_args(Uncertain),
        default=policies.uncertain,
        help="what an uncertain finding is taken for (%(default)s)",
    )
    parser.add_argument(
        "--not-mentioned",
        choices=get_args(NotMentioned),
        default=policies.not_mentioned,
        help="what nothing was said of; absent only where the source's labels say all (%(default)s)",
    )
    parser.add_argument(
        "--unplaced",
        choices=get_args(Unplaced),
        default=policies.unplaced,
        help="a finding without a place beside the same with one: elsewhere too, or explained by it (%(default)s)",
    )
    return parser


def _options(parsed: argparse.Namespace, rules: Rules) -> CatalogueOptions:
    return CatalogueOptions(
        rule=SelectionRule(parsed.labels, parsed.minimum_images, parsed.minimum_patients),
        policies=Policies(parsed.uncertain, parsed.not_mentioned, parsed.unplaced),
        origin=parsed.origin,
        minimum_age=parsed.minimum_age,
        label_set=None if parsed.label_set is None else read_label_set(parsed.label_set, rules),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
