"""Nested folds by patient: outer parts that are scored, and within each training part an inner one that selects."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedGroupKFold

from spf_net.fitting import Rows

_INNER = 5


class Fold(NamedTuple):
    """One outer fold, rows of the data set; no patient is in two parts.

    Attributes:
        train: What is fitted on.
        validation: What selects: the epoch, the learning rate, the head.
        test: What is scored.
    """

    train: Rows
    validation: Rows
    test: Rows


def nested_folds(strata: npt.NDArray[np.str_], patients: npt.NDArray[np.str_], folds: int, seed: int) -> list[Fold]:
    """Outer folds, each with a fifth of its training part set apart for selection.

    Args:
        strata: str (N,), what every part should have its share of.
        patients: str (N,).
        folds: How many, two or more.
        seed: Of the draws.

    Raises:
        ValueError: If there are fewer patients than folds, or the lengths differ.
    """
    rows = np.arange(len(patients))
    found = []
    for fold, (rest, test) in enumerate(_splits(folds, seed).split(rows, strata, patients)):
        inner = _splits(_INNER, seed + 1 + fold).split(rest, strata[rest], patients[rest])
        train, validation = next(iter(inner))
        found.append(Fold(rest[train], rest[validation], test))
    return found


def fold_of_row(folds: list[Fold], rows: int) -> npt.NDArray[np.int64]:
    """The fold in which each row is tested: int64 (N,)."""
    found = np.full(rows, -1, dtype=np.int64)
    for number, fold in enumerate(folds):
        found[fold.test] = number
    return found


def _splits(folds: int, seed: int) -> StratifiedGroupKFold:
    return StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
