"""The fits of one head on one problem: a learning rate chosen on the validation part, then every seed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from spf_net.fitting import FitConfig, LabelledMaps, Rows, fit, scores
from spf_net.heads import HeadConfig
from spf_net.study.progress import Progress
from spf_net.study.store import Record, Store, digest

# A number that grows when the same settings would give another fit.
_FORMAT = 1


@dataclass(frozen=True)
class Problem:
    """Maps and parts of them.

    Attributes:
        settings: Plain values that say what the maps are: with the rows, they name the fits on the disk.
        data: The maps.
        train: For each seed the rows to fit on.
        validation: Rows that choose the epoch and the learning rate.
        test: Rows that are scored, and that nothing is chosen by.
    """

    settings: Mapping[str, Any]
    data: LabelledMaps
    train: Sequence[Rows]
    validation: Rows
    test: Rows


@dataclass(frozen=True)
class Fits:
    """One head, fitted with every seed.

    Attributes:
        rate: The learning rate with the lowest validation loss of the first seed; all seeds have it.
        records: One a seed.
    """

    rate: float
    records: tuple[Record, ...]

    @property
    def validation_loss(self) -> float:
        """Mean over the seeds."""
        return sum(record.validation_loss for record in self.records) / len(self.records)


def fit_seeds(
    problem: Problem, head: HeadConfig, config: FitConfig, rates: Sequence[float], store: Store, progress: Progress
) -> Fits:
    """Fit with each rate and the first seed, then with the best rate and the other seeds.

    Args:
        problem: Maps and their parts; as many training parts as there are seeds: 0, 1, ...
        head: What is fitted.
        config: How; its rate and seed are not used.
        rates: To choose from.
        store: Where finished fits are.
        progress: Moves on by the most images that a fit may see, see `cost`.

    Raises:
        ValueError: If there are no rates or no training parts.
    """
    if not rates or not problem.train:
        raise ValueError(f"rates and train must not be empty, got {rates} and {len(problem.train)} parts")
    first = {rate: _record(problem, head, replace(config, lr=rate, seed=0), store, progress) for rate in rates}
    rate = min(first, key=lambda each: first[each].validation_loss)
    others = range(1, len(problem.train))
    records = [_record(problem, head, replace(config, lr=rate, seed=seed), store, progress) for seed in others]
    return Fits(rate, (first[rate], *records))


def cost(train: Sequence[Rows], config: FitConfig, rates: Sequence[float]) -> int:
    """How many images the fits of `fit_seeds` see at most."""
    first, *others = (len(rows) * config.epochs for rows in train)
    return first * len(rates) + sum(others)


def _record(problem: Problem, head: HeadConfig, config: FitConfig, store: Store, progress: Progress) -> Record:
    train = problem.train[config.seed]
    settings = {
        "format": _FORMAT,
        "problem": dict(problem.settings),
        "labels": digest(problem.data.labels.numpy()),
        "rows": digest(train, problem.validation, problem.test),
        "head": asdict(head),
        "fit": asdict(config),
    }
    work = len(train) * config.epochs
    record = store.find(settings)
    if record is None:
        fitted = fit(problem.data, train, problem.validation, head, config)
        logits = scores(fitted.network, problem.data, problem.test)
        record = Record(
            logits, fitted.validation_loss, fitted.best_epoch, fitted.epochs, fitted.seconds, fitted.parameters
        )
        store.keep(settings, record)
        progress.fitted(work)
    else:
        progress.stored(work)
    return record
