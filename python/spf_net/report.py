"""Results as a table for people and as JSON for programs."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from spf_data.labels import LabelSet

from spf_net.evaluation import Estimate, Evaluation
from spf_net.training import TrainingResult

TITLES = {
    "macro_auroc": "macro AUROC (95 % CI)",
    "weighted_auroc": "weighted AUROC (95 % CI)",
    "side_auc": "side AUC (95 % CI)",
    "zone_auc": "zone AUC (95 % CI)",
    "pair_accuracy": "pair accuracy (95 % CI)",
    "wrong_side_rate": "wrong side rate (95 % CI)",
}
_STOPPED = {"patience": "", "epochs": "*", "time": "**"}
_NOTES = {
    "epochs": "\\* all epochs used, the validation loss was still falling or had only just stopped",
    "time": "\\*\\* stopped by the time limit (`max_minutes`), not converged",
}


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with columns aligned for reading as plain text."""
    widths = [max(len(line[column]) for line in (header, *rows)) for column in range(len(header))]
    lines = [header, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def evaluation_table(evaluations: Mapping[str, Evaluation]) -> str:
    """One row a subset of the images, with every metric; the rate of wrong sides where there were operating points."""
    metrics = [name for name in TITLES if any(name in evaluation.metrics for evaluation in evaluations.values())]
    header = ["images from", "images", "patients", *(TITLES[metric] for metric in metrics), "side cases"]
    header += ["macro average precision", "macro Brier score", "macro calibration error", "labels averaged"]
    rows = [
        [
            name,
            str(evaluation.images),
            str(evaluation.patients),
            *(format_estimate(evaluation.metrics[metric]) for metric in metrics),
            str(evaluation.side_cases),
            format_number(evaluation.macro_average_precision),
            format_number(evaluation.calibration.macro_brier),
            format_number(evaluation.calibration.macro_error),
            f"{evaluation.labels.defined} of {len(evaluation.labels.auroc)}",
        ]
        for name, evaluation in evaluations.items()
    ]
    return markdown_table(header, rows)


def training_line(result: TrainingResult) -> str:
    """How the network was trained, in one line."""
    return (
        f"{result.parameters:,} parameters, {format_epochs(result)} epochs (weights of epoch {result.best_epoch}, "
        f"stopped by {result.stopped_by}), {result.seconds_a_step:.3f} s a step"
    )


def comparison_table(results: Mapping[str, tuple[TrainingResult, Evaluation]]) -> str:
    """One row a head, with notes on every mark in it."""
    metrics = ["macro_auroc", "weighted_auroc", "side_auc"]
    header = ["head", *(TITLES[metric] for metric in metrics), "parameters", "epochs", "seconds a step"]
    rows = [
        [
            name,
            *(format_estimate(evaluation.metrics[metric]) for metric in metrics),
            f"{result.parameters:,}",
            format_epochs(result),
            f"{result.seconds_a_step:.3f}",
        ]
        for name, (result, evaluation) in results.items()
    ]
    reasons = {result.stopped_by for result, _ in results.values()}
    notes = [note for reason, note in _NOTES.items() if reason in reasons]
    return "\n\n".join([markdown_table(header, rows), *notes])


def format_estimate(estimate: Estimate) -> str:
    """For example "0.812 (0.790–0.833)"; "undefined" where there is no value."""
    if math.isnan(estimate.value):
        return "undefined"
    return f"{estimate.value:.3f} ({estimate.low:.3f}–{estimate.high:.3f})"


def format_epochs(result: TrainingResult) -> str:
    """The number of epochs, marked where training did not end by itself."""
    return f"{result.epochs}{_STOPPED[result.stopped_by]}"


def to_json(result: TrainingResult, evaluations: Mapping[str, Evaluation], label_set: LabelSet) -> dict[str, Any]:
    """Everything but the scores as plain values; NaN becomes null."""
    return {
        "parameters": result.parameters,
        "epochs": result.epochs,
        "best_epoch": result.best_epoch,
        "stopped_by": result.stopped_by,
        "seconds_a_step": result.seconds_a_step,
        "seconds": result.seconds,
        "evaluation": {name: evaluation_to_json(item, label_set) for name, item in evaluations.items()},
    }


def evaluation_to_json(evaluation: Evaluation, label_set: LabelSet) -> dict[str, Any]:
    """One evaluation as plain values; NaN becomes null."""
    labels, calibration = evaluation.labels, evaluation.calibration
    return {
        "images": evaluation.images,
        "patients": evaluation.patients,
        "side_cases": evaluation.side_cases,
        "side_calls": None if evaluation.side_calls is None else asdict(evaluation.side_calls),
        "macro_average_precision": or_null(evaluation.macro_average_precision),
        "macro_brier": or_null(calibration.macro_brier),
        "macro_calibration_error": or_null(calibration.macro_error),
        "labels_averaged": labels.defined,
        "metrics": {name: estimate_to_json(estimate) for name, estimate in evaluation.metrics.items()},
        "labels": {
            name: {
                "auroc": or_null(float(labels.auroc[index])),
                "average_precision": or_null(float(labels.average_precision[index])),
                "brier": or_null(float(calibration.brier[index])),
                "calibration_error": or_null(float(calibration.error[index])),
                "positives": int(labels.positives[index]),
                "negatives": int(labels.negatives[index]),
            }
            for index, name in enumerate(label_set.names)
        },
    }


def estimate_to_json(estimate: Estimate) -> dict[str, float | None]:
    """Value and interval, null where they are NaN."""
    return {key: or_null(value) for key, value in estimate._asdict().items()}


def or_null(value: float) -> float | None:
    """The value, or None (null in JSON) where it is not finite."""
    return value if math.isfinite(value) else None


def format_number(value: float) -> str:
    """For example "0.812"; "undefined" where there is no value."""
    return "undefined" if math.isnan(value) else f"{value:.3f}"


def dump(document: Mapping[str, Any]) -> bytes:
    """As strict JSON."""
    return json.dumps(document, indent=1, allow_nan=False).encode()
