"""From a prepared data set to its catalogue: combinations counted, a label set, the manifest with its labels."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from spf_data.catalogue.counting import Count, RowCounter, count_combinations
from spf_data.catalogue.label_set_file import LabelSetFile
from spf_data.catalogue.labelling import UNKNOWN_VALUE, Policies, label_rows
from spf_data.catalogue.places import Combination, Rules
from spf_data.catalogue.selection import CHOSEN, Selection, SelectionRule, select_labels
from spf_data.catalogue.source_map import Unread, reader_of
from spf_data.catalogue.statements import Origin, read_statements
from spf_data.label_places import PLACES
from spf_data.labels import LabelSet
from spf_data.manifest import BASE_SCHEMA, LABEL_PREFIX, Manifest

VIEWS = ("PA", "AP", "AP supine", "frontal")


@dataclass(frozen=True)
class CatalogueOptions:
    """What a catalogue is made of.

    Attributes:
        rule: How many labels, and how frequent.
        policies: What is decided where the statements leave it open.
        origin: "source": the source's own labels; "reports": what the labeller read in the reports; "all": both.
        minimum_age: In years; images of younger patients are left out, those of unknown age stay.
        label_set: Labels of another catalogue, to be used instead of choosing some.
    """

    rule: SelectionRule = field(default_factory=SelectionRule)
    policies: Policies = field(default_factory=Policies)
    origin: Origin = "all"
    minimum_age: float = 18.0
    label_set: LabelSetFile | None = None


@dataclass(frozen=True)
class Catalogue:
    """What there is in a data set, and what was chosen of it.

    Attributes:
        manifest: Its adult frontal images, with the chosen labels; `info` holds the label set and the options.
        rules: What label sets are made of.
        counts: All combinations as they are said.
        selection: The labels, and why the others are none.
        options: What the catalogue is made of.
        left_out: Images left out, by reason.
        unread: What stood for nothing in the vocabulary.
        level: What the labels are said of: "image", "study", or "image and study".
    """

    manifest: Manifest
    rules: Rules
    counts: Mapping[Combination, Count]
    selection: Selection
    options: CatalogueOptions
    left_out: Mapping[str, int]
    unread: Unread
    level: str

    @cached_property
    def label_set(self) -> LabelSet:
        """The labels, in the order of the manifest's columns."""
        return LabelSet(tuple(self.rules.label(place) for place in self.selection.chosen))

    def present(self, part: str | None = None) -> dict[str, Count]:
        """By label the images in which it is present, in one part of the split or in all."""
        rows = np.arange(len(self.manifest)) if part is None else self.manifest.rows()[part]
        labels = self.manifest.labels()[rows]
        counter = RowCounter(self.manifest)
        return {name: counter.of(rows[labels[:, index] == 1]) for index, name in enumerate(self.manifest.label_names)}

    def any_present(self, part: str | None = None) -> Count:
        """The images in which a label is present at all."""
        rows = np.arange(len(self.manifest)) if part is None else self.manifest.rows()[part]
        return RowCounter(self.manifest).of(rows[(self.manifest.labels()[rows] == 1).any(axis=1)])

    @cached_property
    def values(self) -> dict[str, dict[str, int]]:
        """By label how often it is present, absent, and not known."""
        labels = self.manifest.labels()
        return {
            name: {
                "present": int((labels[:, index] == 1).sum()),
                "absent": int((labels[:, index] == 0).sum()),
                "not_known": int(np.isnan(labels[:, index]).sum()),
            }
            for index, name in enumerate(self.manifest.label_names)
        }


def make_catalogue(manifest: Manifest, findings: pa.Table, rules: Rules, options: CatalogueOptions) -> Catalogue:
    """Count a data set's findings with their places, choose labels, and label its images.

    Args:
        manifest: What an adapter of `spf_data.sources` made.
        findings: Its findings (`spf_data.manifest.FINDING_SCHEMA`).
        rules: What label sets are made of.
        options: How many labels, and what is decided where the statements leave it open.

    Raises:
        ValueError: If the source's findings can not be read, no image is left, or none has a finding.
    """
    adults, left_out = _adult_frontal(manifest, options.minimum_age)
    source = manifest.info.get("source", "")
    reader = reader_of(source, rules.vocabulary)
    statements = read_statements(adults, findings, reader, rules.vocabulary, options.origin)
    counts = count_combinations(adults, statements, rules)
    selection = select_labels(counts, rules, options.rule)
    if options.label_set is not None:
        reasons = dict.fromkeys(counts, "not in the label set that was given")
        reasons |= dict.fromkeys((place for place in options.label_set.places if place in counts), CHOSEN)
        selection = Selection(options.label_set.places, reasons)
    complete = adults.table.column("complete").to_numpy(zero_copy_only=False).astype(bool)
    labels = label_rows(statements, complete, selection.chosen, options.policies, rules)
    labelled = _labelled(adults, labels, selection.chosen, rules, options, statements.level)
    return Catalogue(
        manifest=labelled,
        rules=rules,
        counts=counts,
        selection=selection,
        options=options,
        left_out=left_out,
        unread=statements.unread,
        level=statements.level,
    )


def _adult_frontal(manifest: Manifest, minimum_age: float) -> tuple[Manifest, dict[str, int]]:
    """The manifest's adult frontal images, without its labels, and how many others there are."""
    frontal = pc.is_in(manifest.table["view"], pa.array(VIEWS))
    known = pc.is_valid(manifest.table["age"])
    old_enough = pc.fill_null(pc.greater_equal(manifest.table["age"], minimum_age), True)
    kept = pc.and_(frontal, old_enough)
    left_out = {
        "not frontal": pc.sum(pc.invert(frontal)).as_py(),
        f"younger than {minimum_age:g}": pc.sum(pc.and_(frontal, pc.invert(old_enough))).as_py(),
        "kept, of unknown age": pc.sum(pc.and_(frontal, pc.invert(known))).as_py(),
    }
    table = manifest.table.select(BASE_SCHEMA.names).filter(kept)
    if not table.num_rows:
        raise ValueError(f"no image is left; left out: {left_out}")
    info = {name: value for name, value in manifest.info.items() if name != "split_hash"}
    return Manifest(table, info), left_out


def _labelled(
    manifest: Manifest,
    labels: npt.NDArray[np.int8],
    chosen: Sequence[Combination],
    rules: Rules,
    options: CatalogueOptions,
    level: str,
) -> Manifest:
    table = manifest.table
    label_set = LabelSet(tuple(rules.label(place) for place in chosen))
    for index, label in enumerate(label_set.labels):
        values = pa.array(labels[:, index], mask=labels[:, index] == UNKNOWN_VALUE)
        table = table.append_column(LABEL_PREFIX + label.name, values)
    places = {
        label.name: {"finding": label.finding, "side": label.side, "zone": label.zone} for label in label_set.labels
    }
    made = {
        "rule": None if options.label_set else asdict(options.rule),
        "policies": asdict(options.policies),
        "origin": options.origin,
        "minimum_age": options.minimum_age,
        "level": level,
        "label_set": LabelSetFile(tuple(chosen)).hash,
    }
    return Manifest(table, {**manifest.info, PLACES: json.dumps(places), "catalogue": json.dumps(made, sort_keys=True)})
