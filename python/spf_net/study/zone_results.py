"""The measures of the cxr-zones part, line by line and paired, as plain values."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from spf_data.dataset import XrayDataset

from spf_net.bootstrap import patient_resamples
from spf_net.report import estimate_to_json
from spf_net.study import lines
from spf_net.study.cxr_zones import ZoneRun, ZoneStudy
from spf_net.study.folds import fold_of_row
from spf_net.study.lines import FLIPS, FRAMES, HOG, Line
from spf_net.study.outcomes import Outcome
from spf_net.study.statistics import (
    MACRO_AUROC,
    PAIR_ACCURACY,
    SIDE_AUC,
    Measured,
    difference,
    measure,
    statistics,
    verdict,
)

NIH, COVID, ALL = "nih-chestxray14", "cohen-covid", "all"
# The source that is mostly positive is described and decides nothing.
DECIDING = (NIH, ALL)
PRIMARY = ((NIH, MACRO_AUROC), (NIH, PAIR_ACCURACY))
_SEED = 0

# By source and measure.
Measures = dict[tuple[str, str], Measured]


class Comparison(NamedTuple):
    """Which two lines, and why."""

    first: Line
    second: Line
    question: str


def results(dataset: XrayDataset, study: ZoneStudy, run: ZoneRun) -> dict[str, Any]:
    """Everything the page needs.

    Args:
        dataset: All images.
        study: Settings.
        run: What `spf_net.study.cxr_zones.run` returns.
    """
    measured = measures(dataset, study, run)
    return {
        "data": _data(dataset, run),
        "settings": {
            "image size": study.image_size,
            "outer folds": study.folds,
            "seeds": study.seeds,
            "learning rates": list(study.rates),
            "epochs at most": study.fit.epochs,
            "patience": study.fit.patience,
            "batch": study.fit.batch_size,
            "maps after the projection": study.fit.projection,
            "code size": lines.CODE,
            "resamples": study.resamples,
        },
        "lines": [_line(outcome, measured[outcome.line]) for outcome in run.outcomes],
        "comparisons": [
            row for comparison in comparisons(run.outcomes, measured) for row in _compare(comparison, measured)
        ],
    }


def measures(dataset: XrayDataset, study: ZoneStudy, run: ZoneRun) -> dict[Line, Measures]:
    """All measures of all lines; every line sees the same resamples of a source's patients."""
    labels = dataset.labels[run.rows].numpy().astype(np.float64)
    folds = fold_of_row(run.folds, len(run.rows))
    found: dict[Line, Measures] = {outcome.line: {} for outcome in run.outcomes}
    for source, rows in _sources(dataset, run).items():
        weights = patient_resamples(dataset.patients[run.rows][rows], study.resamples, _SEED)
        for name, statistic in statistics(dataset.label_set, folds[rows]).items():
            for outcome in run.outcomes:
                scores = [seed[rows] for seed in outcome.scores]
                found[outcome.line][source, name] = measure(statistic, scores, labels[rows], weights)
    return found


def comparisons(outcomes: Sequence[Outcome], measured: dict[Line, Measures]) -> Iterator[Comparison]:
    """What is compared with what, where both are among the outcomes."""
    known = [outcome.line for outcome in outcomes]

    def pairs() -> Iterator[Comparison]:
        yield Comparison(Line(lines.CHOSEN_SPF, "any", None), Line(lines.CHOSEN_RIVAL, "any", None), "chosen inside")
        for frame in FRAMES:
            for flip in FLIPS:
                best = _best_rival(known, measured, frame, flip)
                for head in lines.SPF:
                    spf = Line(head, frame, flip)
                    yield Comparison(spf, best, "best rival")
                    yield Comparison(spf, Line("average pooling", frame, flip), "average pooling")
                    yield Comparison(spf, Line("square pooling", frame, flip), "square pooling")
                    yield Comparison(spf, Line(HOG, frame, flip, ()), "HOG")
        for head in lines.HEADS:
            yield Comparison(Line(head, "lungs", FLIPS[1]), Line(head, "image", FLIPS[0]), "both levers")
        for head in lines.TWO_LEVELS:
            yield Comparison(Line(head, "lungs", FLIPS[1], (16, 32)), Line(head, "lungs", FLIPS[1]), "two levels")
        for start in ("random", "dct"):
            first = Line("pre-trained codes of the frozen maps", "lungs", FLIPS[1])
            yield Comparison(first, Line(f"{start} codes of the frozen maps", "lungs", FLIPS[1]), "pre-training")

    for comparison in pairs():
        if comparison.first in known and comparison.second in known:
            yield comparison


def _best_rival(known: Sequence[Line], measured: dict[Line, Measures], frame: str, flip: float) -> Line:
    """The rival with the highest macro AUROC on the scored NIH images: picked by what is scored, so in its favour."""
    rivals = [
        line
        for line in known
        if (line.frame, line.flip, line.levels) == (frame, flip, (16,)) and line.head in lines.RIVALS
    ]
    return max(rivals, key=lambda line: measured[line][NIH, MACRO_AUROC].value)


def _compare(comparison: Comparison, measured: dict[Line, Measures]) -> Iterator[dict[str, Any]]:
    for source in DECIDING:
        for name in (MACRO_AUROC, PAIR_ACCURACY, SIDE_AUC):
            first, second = (measured[line][source, name] for line in comparison[:2])
            estimate = difference(first, second)
            yield {
                "question": comparison.question,
                "first": line_to_json(comparison.first),
                "second": line_to_json(comparison.second),
                "source": source,
                "measure": name,
                "primary": (source, name) in PRIMARY,
                **estimate_to_json(estimate),
                "verdict": verdict(estimate),
            }


def line_to_json(line: Line) -> dict[str, Any]:
    """As plain values."""
    return {"head": line.head, "frame": line.frame, "flip": line.flip, "levels": list(line.levels)}


def _line(outcome: Outcome, measured: Measures) -> dict[str, Any]:
    found: dict[str, dict[str, Any]] = {}
    for (source, name), value in measured.items():
        found.setdefault(source, {})[name] = {**estimate_to_json(value.estimate), "spread": value.spread}
    return {
        **line_to_json(outcome.line),
        "parameters": outcome.parameters,
        "seconds": outcome.seconds,
        "rates": list(outcome.rates),
        "chosen": [line_to_json(line) for line in outcome.chosen],
        "measures": found,
    }


def _sources(dataset: XrayDataset, run: ZoneRun) -> dict[str, npt.NDArray[np.bool_]]:
    sources = dataset.sources[run.rows]
    return {NIH: sources == NIH, ALL: np.ones(len(sources), dtype=bool), COVID: sources == COVID}


def _data(dataset: XrayDataset, run: ZoneRun) -> dict[str, Any]:
    patients = dataset.patients[run.rows]
    return {
        "images": len(dataset),
        "labelled": len(run.rows),
        "without lung boxes": int(dataset.lung_boxes[run.rows].isnan().any(dim=2).any(dim=1).sum()),
        "dropped": dataset.report,
        "sources": {
            source: {"images": int(rows.sum()), "patients": len(set(patients[rows]))}
            for source, rows in _sources(dataset, run).items()
        },
    }
