"""What comes of one line of the cxr-zones table: every image scored by the networks that have not seen its patient."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spf_net.ranking import FloatArray
from spf_net.study.fits import Fits
from spf_net.study.folds import Fold
from spf_net.study.lines import Line
from spf_net.study.store import Scores


@dataclass(frozen=True)
class Outcome:
    """Out-of-fold logits of one line.

    Attributes:
        line: What was fitted.
        scores: For each seed float32 (N, L).
        losses: float64 (folds,), on each fold's validation part, mean over the seeds: what may be selected by.
        rates: The learning rate that each fold chose; empty where there is none.
        parameters: Trainable ones.
        seconds: Of a fit, on average.
        chosen: Where a fold chose among lines: which one each fold took.
    """

    line: Line
    scores: tuple[Scores, ...]
    losses: FloatArray
    rates: tuple[float, ...] = ()
    parameters: int = 0
    seconds: float = 0.0
    chosen: tuple[Line, ...] = ()


def gather(line: Line, fits: Sequence[Fits], folds: Sequence[Fold]) -> Outcome:
    """The test parts of all folds, put together.

    Args:
        line: What was fitted.
        fits: One a fold.
        folds: Parts of the N images.
    """
    records = [record for each in fits for record in each.records]
    seeds = zip(*(each.records for each in fits), strict=True)
    return Outcome(
        line=line,
        scores=tuple(_joined([record.scores for record in seed], folds) for seed in seeds),
        losses=np.array([each.validation_loss for each in fits]),
        rates=tuple(each.rate for each in fits),
        parameters=records[0].parameters,
        seconds=sum(record.seconds for record in records) / len(records),
    )


def choose_inside(line: Line, candidates: Sequence[Outcome], folds: Sequence[Fold]) -> Outcome:
    """In each fold the candidate with the lowest loss on the validation part: nothing is selected by what is scored.

    Args:
        line: What the result is called.
        candidates: All with as many seeds and folds.
        folds: Parts of the N images.

    Raises:
        ValueError: If there are no candidates.
    """
    if not candidates:
        raise ValueError("candidates must not be empty, got none")
    losses = np.stack([candidate.losses for candidate in candidates])
    best = [candidates[index] for index in losses.argmin(axis=0)]
    seeds = range(len(best[0].scores))
    scores = [
        _joined([each.scores[seed][fold.test] for each, fold in zip(best, folds, strict=True)], folds) for seed in seeds
    ]
    return Outcome(line, tuple(scores), losses.min(axis=0), chosen=tuple(each.line for each in best))


def _joined(parts: Sequence[Scores], folds: Sequence[Fold]) -> Scores:
    joined = np.empty((sum(len(part) for part in parts), parts[0].shape[1]), dtype=np.float32)
    for part, fold in zip(parts, folds, strict=True):
        joined[fold.test] = part
    return joined
