"""The tables of an evaluation of several runs, for Markdown and HTML alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from spf_data.labels import LabelSet

from spf_net.config import config_to_dict
from spf_net.evaluation import Evaluation
from spf_net.report import TITLES, format_estimate, format_number, markdown_table
from spf_net.run_evaluation import RunEvaluation

METRIC_NOTES = {
    "macro / weighted AUROC": "mean of the labels' AUROCs, plain or weighted by their positives; labels without known "
    "positives and negatives are left out, and counted.",
    "side AUC": "right against left among the cases with a finding on one side only; 0.5 is chance.",
    "zone AUC": "AUROC of the zone labels among the images that show the finding anywhere; 0.5 is chance.",
    "pair accuracy": "within an image, share of the pairs of a present and an absent zone in which the present one "
    "scores higher; 0.5 is chance.",
    "wrong side rate": "share of the called findings on one side only that are called on the other side; a finding is "
    "called from the operating point on, where Youden's J is largest on the validation part. Lower is better; 0.5 is "
    "chance.",
    "Brier score, calibration error": "mean squared distance of probability and label; mean distance of predicted and "
    "observed share over 10 bins of equally many images, a label. Lower is better; the error of few images is above 0 "
    "for perfect probabilities, too.",
    "pointing game": "share of the present labels whose strongest evidence lies on the finding, within half a map "
    "pixel's diagonal; chance is the share of the map's pixels that would hit.",
    "interval": "95 %, of the patients resampled.",
}


@dataclass(frozen=True)
class Table:
    """A table with a row a thing; the first column names it.

    Attributes:
        title: What it shows.
        header: Names of the columns.
        rows: Cells as text.
        notes: What to know about it, a sentence each.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        """Title, table and notes."""
        return "\n\n".join([f"## {self.title}", markdown_table(self.header, self.rows), *self.notes])


def methods_table(runs: Sequence[RunEvaluation]) -> Table:
    """One row a network, with everything that is one number a network."""
    metrics = [name for name in TITLES if any(name in run.evaluations["all"].metrics for run in runs)]
    header = ["network", *(TITLES[metric] for metric in metrics)]
    header += ["macro average precision", "macro Brier score", "macro calibration error"]
    header += ["pointing game (95 % CI)", "its chance", "labels averaged", "parameters"]
    rows = []
    for run in runs:
        result = run.evaluations["all"]
        rows.append(
            [
                run.name,
                *(format_estimate(result.metrics[name]) if name in result.metrics else "undefined" for name in metrics),
                format_number(result.macro_average_precision),
                format_number(result.calibration.macro_brier),
                format_number(result.calibration.macro_error),
                *_pointing_cells(run),
                f"{result.labels.defined} of {len(result.labels.auroc)}",
                f"{run.parameters:,}",
            ]
        )
    return Table("Networks, all images", header, rows, [note for run in runs for note in _notes(run)])


def source_tables(runs: Sequence[RunEvaluation]) -> list[Table]:
    """Where images come from several sources, a table a source."""
    sources = dict.fromkeys(source for run in runs for source in run.evaluations if source != "all")
    return [_source_table(source, runs) for source in sources]


def label_table(runs: Sequence[RunEvaluation], label_set: LabelSet) -> Table:
    """AUROC of every label for every network."""
    rows = [
        [name, *(format_number(float(run.evaluations["all"].labels.auroc[index])) for run in runs)]
        for index, name in enumerate(label_set.names)
    ]
    return Table("AUROC by label", ["label", *(run.name for run in runs)], rows)


def run_label_table(run: RunEvaluation, label_set: LabelSet) -> Table:
    """Everything that is measured label by label, of one network."""
    result = run.evaluations["all"]
    columns = (result.labels.auroc, result.labels.average_precision, result.calibration.brier, result.calibration.error)
    rows = [
        [
            name,
            str(result.labels.positives[index]),
            str(result.labels.negatives[index]),
            *(format_number(float(values[index])) for values in columns),
        ]
        for index, name in enumerate(label_set.names)
    ]
    header = ["label", "positive", "negative", "AUROC", "average precision", "Brier score", "calibration error"]
    return Table(f"Labels, {run.name}", header, rows)


def subgroup_table(runs: Sequence[RunEvaluation]) -> Table:
    """One row a group of patients and network."""
    rows = []
    for run in runs:
        for attribute, groups in groupby(run.subgroups, key=lambda group: group.attribute):
            listed = list(groups)
            if all(group.images == 0 for group in listed[:-1]):
                rows.append([attribute, "not known for any image", run.name, str(listed[-1].images), "", "", ""])
                continue
            for group in listed:
                value = group.reason or format_estimate(group.macro_auroc)
                averaged = "" if group.reason else str(group.labels_averaged)
                counts = [str(group.images), str(group.patients)]
                rows.append([attribute, group.name, run.name, *counts, value, averaged])
    header = ["attribute", "group", "network", "images", "patients", TITLES["macro_auroc"], "labels averaged"]
    return Table("Subgroups", header, rows, ["A group's mean is over the labels that are defined within the group."])


def settings_table(runs: Sequence[RunEvaluation]) -> Table:
    """Every setting of every network; those that differ are marked."""
    settings = [_flat(config_to_dict(run.config)) for run in runs]
    rows = []
    for key in dict.fromkeys(key for each in settings for key in each):
        values = [str(each.get(key, "")) for each in settings]
        rows.append([key if len(set(values)) == 1 else f"{key} (differs)", *values])
    return Table("Settings", ["setting", *(run.name for run in runs)], rows)


def _source_table(source: str, runs: Sequence[RunEvaluation]) -> Table:
    results: dict[str, Evaluation] = {run.name: run.evaluations[source] for run in runs if source in run.evaluations}
    metrics = [name for name in TITLES if any(name in result.metrics for result in results.values())]
    rows = [
        [
            name,
            str(result.images),
            str(result.patients),
            *(
                format_estimate(result.metrics[metric]) if metric in result.metrics else "undefined"
                for metric in metrics
            ),
        ]
        for name, result in results.items()
    ]
    header = ["network", "images", "patients", *(TITLES[metric] for metric in metrics)]
    return Table(f"Images from {source} alone", header, rows)


def _pointing_cells(run: RunEvaluation) -> list[str]:
    if run.pointing is None:
        return ["not played", ""]
    return [format_estimate(run.pointing.hit_rate), format_number(run.pointing.chance)]


def _notes(run: RunEvaluation) -> list[str]:
    """How many cases the numbers of a network rest on."""
    result = run.evaluations["all"]
    notes = [
        f"{run.name}: test part of {result.images} images of {result.patients} patients (seed "
        f"{run.config.training.seed}); side AUC on {result.side_cases} cases."
    ]
    if result.side_calls is None:
        notes.append(
            f"{run.name}: no wrong side rate, since there is no validation part to choose operating points on."
        )
    else:
        calls = result.side_calls
        notes.append(
            f"{run.name}: wrong side rate on the {calls.called} findings called of {calls.cases} on one side only; "
            f"operating points of {calls.thresholds} of {calls.sided_labels} sided labels."
        )
    if run.pointing is None:
        notes.append(f"{run.name}: no pointing game: {run.no_pointing}.")
    else:
        game = run.pointing
        notes.append(
            f"{run.name}: pointing game on {game.cases} findings of {game.images} images against {game.truth}; "
            f"{game.without_truth} findings whose place is not known left out."
        )
    if run.config.training.class_weights:
        notes.append(f"{run.name}: trained with class weights, so its probabilities are not meant to be calibrated.")
    return notes


def _flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} becomes {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
