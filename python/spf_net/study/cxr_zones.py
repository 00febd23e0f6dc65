"""Heads on cxr-zones by nested cross-validation, on cached maps, with and without lung frame and flips."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from spf_data.dataset import XrayDataset

from spf_net.cached_maps import CacheConfig, CachedMaps, cached_maps
from spf_net.fitting import FitConfig, LabelledMaps, Rows
from spf_net.heads import HeadConfig
from spf_net.study import lines
from spf_net.study.fits import Problem, cost, fit_seeds
from spf_net.study.folds import Fold, nested_folds
from spf_net.study.hog import framed_hog, probe
from spf_net.study.lines import FLIPS, FRAMES, HEADS, HOG, TWO_LEVELS, Line
from spf_net.study.outcomes import Outcome, choose_inside, gather
from spf_net.study.pretraining import STARTS, PretrainingConfig, codes
from spf_net.study.progress import Progress
from spf_net.study.store import Store, digest
from spf_net.study.zone_maps import MARGIN, BothMaps, labelled, labelled_rows, maps_of

_BOTH_LEVELS = (16, 32)
_SMALLEST_STRATUM = 25


@dataclass(frozen=True)
class ZoneStudy:
    """Settings of the cxr-zones part.

    Attributes:
        image_size: Pixels a side; maps have a sixteenth of that.
        folds: Outer folds.
        fold_seed: Of the folds.
        seeds: Fits of each head and fold.
        rates: Learning rates to choose from, on the validation part.
        fit: How heads are fitted; its rate, seed and flip are not used.
        pretraining: How auto-encoders are pre-trained.
        resamples: Of the bootstrap.
        heads: Names of `lines.HEADS`.
    """

    image_size: int = 256
    folds: int = 5
    fold_seed: int = 0
    seeds: int = 3
    rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    fit: FitConfig = field(default_factory=FitConfig)
    pretraining: PretrainingConfig = field(default_factory=PretrainingConfig)
    resamples: int = 2000
    heads: tuple[str, ...] = tuple(HEADS)


QUICK = ZoneStudy(
    image_size=128,
    folds=2,
    seeds=1,
    rates=(1e-3,),
    fit=FitConfig(projection=8, epochs=1),
    pretraining=PretrainingConfig(epochs=1),
    resamples=20,
    heads=("average pooling", "square pooling", "4x4 pooling + flatten", "SPF, random start"),
)


@dataclass(frozen=True)
class ZoneRun:
    """What the study found, before it is measured.

    Attributes:
        rows: The labelled images, (N,) rows of the data set.
        folds: Parts of these N.
        outcomes: One a line.
    """

    rows: Rows
    folds: list[Fold]
    outcomes: list[Outcome]


def run(dataset: XrayDataset, study: ZoneStudy, caches: Path, store: Store) -> ZoneRun:
    """Fit everything that is not in the store yet.

    Args:
        dataset: All images, those without labels too; with lung boxes.
        study: Settings.
        caches: Folder of cached maps.
        store: Finished fits.

    Raises:
        OSError: If the network's weights can not be had, or the cache or the store can not be written.
    """
    cached = cached_maps(dataset, CacheConfig(strides=_BOTH_LEVELS), caches)
    rows = labelled_rows(dataset)
    folds = nested_folds(_strata(dataset, rows), dataset.patients[rows], study.folds, study.fold_seed)
    fitter = _Fitter(dataset, study, cached, store, rows, folds)
    outcomes = [*fitter.main_lines(), *fitter.two_levels(), *fitter.pretrained(), *_hog_lines(dataset, rows, folds)]
    fitter.progress.close()
    outcomes += _chosen(outcomes, folds)
    return ZoneRun(rows, folds, outcomes)


def _strata(dataset: XrayDataset, rows: Rows) -> npt.NDArray[np.str_]:
    """Source, and whether anything is positive; the source alone where hardly anything is negative, or positive."""
    sources = dataset.sources[rows]
    positive = (dataset.labels[rows].numpy() == 1).any(axis=1)
    rarer = {source: min(np.bincount(positive[sources == source], minlength=2)) for source in set(sources)}
    return np.array(
        [
            f"{source} {shown}" if rarer[source] >= _SMALLEST_STRATUM else source
            for source, shown in zip(sources, positive, strict=True)
        ]
    )


class _Fitter:
    """Fits line after line."""

    def __init__(
        self,
        dataset: XrayDataset,
        study: ZoneStudy,
        cached: CachedMaps,
        store: Store,
        rows: Rows,
        folds: list[Fold],
    ) -> None:
        self._dataset, self._study, self._cached, self._store = dataset, study, cached, store
        self._rows, self._folds = rows, folds
        count = len(study.heads) * len(FRAMES) * len(FLIPS) + len(self._level_heads) + len(STARTS)
        work = sum(cost([fold.train] * study.seeds, study.fit, study.rates) for fold in folds)
        self.progress = Progress("cxr-zones", count * work)

    @property
    def _level_heads(self) -> list[str]:
        return [head for head in TWO_LEVELS if head in self._study.heads]

    def main_lines(self) -> Iterator[Outcome]:
        """Every head, in both frames, with and without flips."""
        for frame in FRAMES:
            both = maps_of(self._cached, self._dataset, self._rows, frame, (16,))
            data = labelled(both, self._dataset, self._rows)
            for flip in FLIPS:
                for head in self._study.heads:
                    line = Line(head, frame, flip)
                    yield self._outcome(line, HEADS[head], [data] * len(self._folds), self._study.fit.projection)

    def two_levels(self) -> Iterator[Outcome]:
        """Maps of strides 16 and 32 together."""
        both = maps_of(self._cached, self._dataset, self._rows, "lungs", _BOTH_LEVELS)
        data = labelled(both, self._dataset, self._rows)
        for head in self._level_heads:
            line = Line(head, "lungs", FLIPS[1], _BOTH_LEVELS)
            yield self._outcome(line, HEADS[head], [data] * len(self._folds), self._study.fit.projection)

    def pretrained(self) -> Iterator[Outcome]:
        """Frozen codes of the frozen maps: random, cosine, or pre-trained.

        On all images, labelled or not, but those of the patients of the test part.
        """
        everything = np.arange(len(self._dataset))
        both = maps_of(self._cached, self._dataset, everything, "lungs", (16,))
        for start in STARTS:
            data = []
            for fold in self._folds:
                hidden = np.isin(self._dataset.patients, self._dataset.patients[self._rows[fold.test]])
                coded = codes(both, everything[~hidden], start, self._study.pretraining)
                kept = BothMaps(coded.plain[self._rows], coded.mirrored[self._rows])
                data.append(labelled(kept, self._dataset, self._rows))
            line = Line(f"{start} codes of the frozen maps", "lungs", FLIPS[1])
            yield self._outcome(line, HeadConfig(name="flatten"), data, None)

    def _outcome(self, line: Line, head: HeadConfig, data: Sequence[LabelledMaps], projection: int | None) -> Outcome:
        study = self._study
        config = FitConfig(**(vars(study.fit) | {"flip": line.flip, "projection": projection}))
        fits = []
        for number, fold in enumerate(self._folds):
            settings = {
                "maps": self._cached.folder.name,
                "line": vars(line) | {"levels": list(line.levels)},
                "margin": MARGIN,
                "boxes": digest(self._dataset.lung_boxes.numpy()),
                "pretraining": vars(study.pretraining) if projection is None else None,
            }
            problem = Problem(settings, data[number], [fold.train] * study.seeds, fold.validation, fold.test)
            fits.append(fit_seeds(problem, head, config, study.rates, self._store, self.progress))
        return gather(line, fits, self._folds)


def _chosen(outcomes: Sequence[Outcome], folds: Sequence[Fold]) -> Iterator[Outcome]:
    """The two families, each free to choose head, frame, flip and rate inside the folds."""
    for name, heads in ((lines.CHOSEN_RIVAL, lines.RIVALS), (lines.CHOSEN_SPF, lines.SPF)):
        candidates = [each for each in outcomes if each.line.head in heads and each.line.levels == (16,)]
        yield choose_inside(Line(name, "any", None), candidates, folds)


def _hog_lines(dataset: XrayDataset, rows: Rows, folds: Sequence[Fold]) -> Iterator[Outcome]:
    images = torch.stack([dataset[int(row)]["image"] for row in rows])
    boxes = dataset.lung_boxes[rows]
    labels = dataset.labels[rows].numpy()
    for frame in FRAMES:
        margin = MARGIN if frame == "lungs" else None
        plain, mirrored = framed_hog(images, boxes, margin), framed_hog(images, boxes, margin, mirror=True)
        for flip in FLIPS:
            scores = np.empty_like(labels)
            for fold in folds:
                scores[fold.test] = probe(plain, mirrored if flip else None, labels, dataset.label_set, fold)
            yield Outcome(Line(HOG, frame, flip, ()), (scores,), np.full(len(folds), np.nan))
