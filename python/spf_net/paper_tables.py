"""The paper's tables, its numbers beside ours, from the results of `spf_net.experiments`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, NamedTuple

from spf_data.labels import LabelSet

from spf_net.experiments import LEVERS, Plan, StudyName, Task, methods
from spf_net.tables import Table


class PaperLabel(NamedTuple):
    """A row of the SPF paper's Table 1: AUROCs of SPF, of the network with square pooling, and of the detector."""

    spf: float
    square_pooling: float
    detector: float


PAPER_LABELS = {
    "elevated right hemidiaphragm": PaperLabel(0.892, 0.797, 0.654),
    "bilateral pleural effusions": PaperLabel(0.823, 0.793, 0.71),
    "pneumothorax in the left lower lobe": PaperLabel(0.882, 0.784, 0.679),
    "right lower lobe pleural effusion": PaperLabel(0.812, 0.766, 0.71),
}
# Table 2, 57 labels: macro and weighted AUROC. Which reading of square pooling it was is not known.
PAPER_METHODS = {"SPF": ("0.81", "0.79"), "square pooling": ("0.74", "0.723")}
PAPER_DETECTOR = ("detector (DETR)", "0.512", "0.573")
# Table 3: macro AUROC by code size, of maps of 64x64 pixels.
PAPER_CODES = {32: "0.67", 64: "0.716", 128: "0.81", 256: "0.80"}
PAPER_MAP_PIXELS = 64 * 64
# What Table 1 compares: the paper's two, and the strongest simple rival.
TABLE_1_METHODS = ("SPF", "square pooling", "4x4 pooling + flatten")
NO_CXR_ZONES = (
    "Not made on cxr-zones, the real radiographs: their folder was not given (`--cxr-zones ROOT`), so this is the "
    "phantom alone."
)
MEASURES = {
    "average_precision": "macro average precision",
    "brier": "macro Brier score",
    "calibration_error": "macro calibration error",
    "side_auc": "side AUC",
    "zone_auc": "zone AUC",
    "pair_accuracy": "pair accuracy",
}


@dataclass(frozen=True)
class Results:
    """What has been run.

    Attributes:
        plan: Sizes.
        found: Results by `Task.key`.
        label_sets: Of the data sets that were used.
        images: How many images they have.
    """

    plan: Plan
    found: Mapping[str, Any]
    label_sets: Mapping[StudyName, LabelSet]
    images: Mapping[StudyName, int]

    def runs(self, study: StudyName, kind: Any, variant: str, lever: str) -> list[Mapping[str, Any]]:
        """The result of each seed."""
        keys = (Task(study, kind, variant, seed).key for seed in range(self.plan.seeds))
        return [self.found[key][lever] for key in keys]

    def measure(self, runs: Sequence[Mapping[str, Any]], name: str, source: str = "all") -> list[float]:
        """A measure of each seed, NaN where it is not defined."""
        values = [run["evaluation"][source][name] for run in runs]
        return [math.nan if value is None else float(value) for value in values]

    def label(self, runs: Sequence[Mapping[str, Any]], index: int) -> list[float]:
        """The AUROC of one label of each seed, NaN where it is not defined."""
        values = [run["evaluation"]["all"]["labels"][index] for run in runs]
        return [math.nan if value is None else float(value) for value in values]


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation over the seeds, "0.812 ± 0.004", those left out where it is undefined."""
    defined = [value for value in values if not math.isnan(value)]
    if not defined:
        return "undefined"
    if len(defined) == 1:
        return f"{defined[0]:.3f}"
    return f"{fmean(defined):.3f} ± {stdev(defined):.3f}"


def made_on(results: Results, study: StudyName) -> str:
    """The sentence that every table of a study carries."""
    images, plan = results.images[study], results.plan
    seeds = f"mean ± standard deviation of {plan.seeds} seeds, each with its own split by patient and its own weights"
    if study == "phantom":
        absent = "" if "cxr-zones" in results.label_sets else f" {NO_CXR_ZONES}"
        return (
            f"Made on the phantom, {images:,} generated radiographs with {len(results.label_sets[study])} labels "
            f"(70, 10 and 20 % of the patients to train, stop and test), **not on the paper's data**; {seeds}.{absent}"
        )
    return (
        f"Made on cxr-zones, {images:,} real radiographs of two public sources with {len(results.label_sets[study])} "
        f"labels ({plan.folds}-fold cross-validation, the folds' scores pooled), **not on the paper's data**; {seeds}."
    )


def label_tables(results: Results) -> list[Table]:
    """Table 1: the four labels that the paper names, which the phantom has."""
    names = results.label_sets["phantom"].names
    header = ["label", "SPF, paper", "SPF", "square pooling, paper", *TABLE_1_METHODS[1:], "detector, paper"]
    rows = []
    for label, paper in PAPER_LABELS.items():
        ours = [
            spread(results.label(results.runs("phantom", "method", method, "neither"), names.index(label)))
            for method in TABLE_1_METHODS
        ]
        rows.append([label, f"{paper.spf}", ours[0], f"{paper.square_pooling}", *ours[1:], f"{paper.detector}"])
    notes = [
        made_on(results, "phantom"),
        "The detector is not rebuilt. Without ± only one seed has cases to test on. All labels of all methods: "
        "[labels.md](labels.md).",
    ]
    return [Table("Table 1: AUROC of the labels that the paper names", header, rows, notes)]


def all_label_tables(results: Results) -> list[Table]:
    """Every label of every method, mean over the seeds."""
    tables = []
    for study, label_set in results.label_sets.items():
        listed = list(methods(results.plan.code_size, results.plan.projection))
        rows = []
        for index, label in enumerate(label_set.names):
            runs = [results.runs(study, "method", method, "neither") for method in listed]
            rows.append([label, *(spread(results.label(run, index)) for run in runs)])
        note = f"{made_on(results, study)} Without lung frame and flips."
        tables.append(Table(f"AUROC by label, {study}", ["label", *listed], rows, [note]))
    return tables


def method_tables(results: Results) -> list[Table]:
    """Table 2 for each data set: macro and weighted AUROC of every method, with and without the two levers."""
    tables = []
    for study in results.label_sets:
        for source in _sources(results, study):
            tables.append(_method_table(results, study, source, "macro_auroc"))
        tables.append(_method_table(results, study, "all", "weighted_auroc"))
    return tables


def measure_tables(results: Results) -> list[Table]:
    """Everything else about the methods, without levers and with both."""
    tables = []
    header = ["method", "levers", *MEASURES.values(), "parameters", "epochs", "head's share of a step"]
    for study in results.label_sets:
        rows = []
        for method in methods(results.plan.code_size, results.plan.projection):
            for lever in ("neither", "both"):
                runs = results.runs(study, "method", method, lever)
                cells = [spread(results.measure(runs, name)) for name in MEASURES]
                epochs, share = (fmean(run[name] for run in runs) for name in ("epochs", "head_share"))
                rows.append([method, lever, *cells, f"{runs[0]['parameters']:,}", f"{epochs:.0f}", f"{share:.0%}"])
        notes = [
            made_on(results, study),
            "Side AUC, zone AUC and pair accuracy of 0.5 are chance. The head's share is that of forward and backward "
            "on cached maps, where no extractor runs.",
        ]
        tables.append(Table(f"Table 2, continued: precision, calibration, location; {study}", header, rows, notes))
    return tables


def code_table(results: Results) -> Table:
    """Table 3: sizes of the codes, beside those that are the same share of the paper's maps."""
    pixels = results.plan.map_side**2
    header = ["code size", "share of a map's pixels", "macro AUROC", "weighted AUROC"]
    header += ["the paper's size of this share", "macro AUROC, paper"]
    rows = []
    for size in results.plan.code_sizes:
        runs = results.runs("phantom", "code", str(size), "neither")
        theirs = size * PAPER_MAP_PIXELS // pixels
        rows.append(
            [
                str(size),
                f"{size / pixels:.2%}",
                spread(results.measure(runs, "macro_auroc")),
                spread(results.measure(runs, "weighted_auroc")),
                str(theirs) if theirs in PAPER_CODES else "–",
                PAPER_CODES.get(theirs, "–"),
            ]
        )
    notes = [
        made_on(results, "phantom"),
        f"The paper's maps have {PAPER_MAP_PIXELS:,} pixels by one of its two statements, ours {pixels}, so codes are "
        "scaled to the same share of a map. SPF with ReLU and decoder loss.",
    ]
    return Table("Table 3: size of the codes", header, rows, notes)


def stage_table(results: Results) -> Table:
    """The layer ablation that the paper announces."""
    plan = results.plan
    header = ["stage", "maps", "macro AUROC", "weighted AUROC", "side AUC", "pair accuracy", "paper"]
    rows = []
    for stage in plan.stages:
        runs = results.runs("phantom", "stage", str(stage), "neither")
        side = min(plan.image_size // stage, plan.map_side)
        names = ("macro_auroc", "weighted_auroc", "side_auc", "pair_accuracy")
        cells = [spread(results.measure(runs, name)) for name in names]
        rows.append([f"stride {stage}", f"{side}x{side}", *cells, "no number"])
    notes = [
        made_on(results, "phantom"),
        f"SPF with codes of {plan.code_size} on {plan.projection} maps that a 1x1 convolution makes of each stage of "
        f"EfficientNet-Lite0; maps finer than {plan.map_side}x{plan.map_side} are averaged to that size, which keeps "
        "the heads alike; coarser ones keep theirs. The paper announces this ablation and gives no number.",
    ]
    return Table("Layer ablation: the stage that the maps come from", header, rows, notes)


def _sources(results: Results, study: StudyName) -> list[str]:
    """All images together, then each source alone where there are several."""
    return list(results.runs(study, "method", "SPF", "neither")[0]["evaluation"])


def _method_table(results: Results, study: StudyName, source: str, measure: str) -> Table:
    weighted = measure == "weighted_auroc"
    title = "weighted AUROC" if weighted else "macro AUROC"
    header = ["method", f"{title}, paper", *(f"{lever}" for lever in LEVERS)]
    rows = []
    for method in methods(results.plan.code_size, results.plan.projection):
        cells = [
            spread(results.measure(results.runs(study, "method", method, lever), measure, source)) for lever in LEVERS
        ]
        rows.append([method, PAPER_METHODS.get(method, ("–", "–"))[weighted], *cells])
    rows.append([PAPER_DETECTOR[0], PAPER_DETECTOR[1 + weighted], *("not rebuilt" for _ in LEVERS)])
    where = study if source == "all" else f"{study}, {source} alone"
    notes = [
        made_on(results, study),
        "Flips swap the labels of right and left; the lung frame resamples the maps to the box around both lungs.",
    ]
    return Table(f"Table 2: {title}; {where}", header, rows, notes)
