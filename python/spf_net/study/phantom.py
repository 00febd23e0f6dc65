"""Heads on the phantom along three axes: number of training images, size of the findings, shift of the patients."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from spf_data.dataset import XrayDataset
from spf_data.phantom.config import PhantomConfig
from spf_data.phantom.dataset import PhantomDataset

from spf_net.bootstrap import patient_resamples
from spf_net.cached_maps import CacheConfig, as_tensor, cached_maps
from spf_net.fitting import FitConfig, LabelledMaps, Rows
from spf_net.heads import HeadConfig
from spf_net.report import estimate_to_json
from spf_net.study.fits import Fits, Problem, cost, fit_seeds
from spf_net.study.progress import Progress
from spf_net.study.statistics import MACRO_AUROC, Measured, difference, measure, statistics, verdict
from spf_net.study.store import Store

CODE = 16
# The paper's head and its key ablation; what it replaced; what it must beat with as many numbers a map, and with more;
# what a linear one factorises. Average pooling is left out: square pooling is as blind to places, and sees more.
HEADS: dict[str, HeadConfig] = {
    "SPF with decoders (the paper's)": HeadConfig(name="spf", code_size=CODE, activation="relu"),
    "SPF, frozen random": HeadConfig(
        name="spf", code_size=CODE, activation=None, reconstruction_weight=0.0, frozen=True
    ),
    "square pooling": HeadConfig(name="square_pooling"),
    "4x4 pooling + flatten": HeadConfig(name="adaptive_flatten", grid=4),
    "6x6 pooling + flatten": HeadConfig(name="adaptive_flatten", grid=6),
    "plain flatten": HeadConfig(name="flatten"),
}
SPF = tuple(name for name, head in HEADS.items() if head.name == "spf")
RIVALS = tuple(name for name in HEADS if name not in SPF)
AXES = ("training images", "finding size", "patient shift")
_STRIDE = 16
_SEED = 0


@dataclass(frozen=True)
class Setting:
    """One point of the study.

    Attributes:
        images: Training images.
        finding_size: See `PhantomConfig`.
        shift: See `PhantomConfig`.
    """

    images: int = 3200
    finding_size: float = 1.0
    shift: float = 0.03


@dataclass(frozen=True)
class PhantomStudy:
    """Settings of the phantom part.

    Attributes:
        image_size: Pixels a side; maps have a sixteenth of that.
        middle: What the other axes stay at.
        images: Values of the first axis.
        finding_sizes: Of the second.
        shifts: Of the third.
        validation_images: About as many, the same for all training sizes.
        test_images: About as many.
        seeds: Fits of each head and setting. A seed draws its own training images where there are more than it needs.
        rates: Learning rates to choose from, on the validation part.
        images_seen: A fit sees about as many training images, over all epochs, at most.
        epochs: And passes at most this often over them.
        fit: How heads are fitted; its rate, seed and epochs are not used.
        resamples: Of the bootstrap.
    """

    image_size: int = 192
    middle: Setting = field(default_factory=Setting)
    images: tuple[int, ...] = (200, 800, 3200, 10_000)
    finding_sizes: tuple[float, ...] = (0.6, 1.0, 1.6)
    shifts: tuple[float, ...] = (0.0, 0.03, 0.08)
    validation_images: int = 500
    test_images: int = 1500
    seeds: int = 3
    rates: tuple[float, ...] = (1e-3, 3e-3)
    images_seen: int = 80_000
    epochs: int = 100
    fit: FitConfig = field(default_factory=lambda: FitConfig(flip=0.5))
    resamples: int = 500

    def axes(self) -> dict[str, dict[float, Setting]]:
        """For each axis its values and the settings they stand for."""
        return {
            AXES[0]: {images: replace(self.middle, images=images) for images in self.images},
            AXES[1]: {size: replace(self.middle, finding_size=size) for size in self.finding_sizes},
            AXES[2]: {shift: replace(self.middle, shift=shift) for shift in self.shifts},
        }

    def fit_of(self, setting: Setting) -> FitConfig:
        """How long a head may be fitted on so many images: about as many steps whatever their number."""
        epochs = max(1, min(self.epochs, self.images_seen // setting.images))
        return replace(self.fit, epochs=epochs, patience=max(self.fit.patience, epochs // 6))


QUICK = PhantomStudy(
    image_size=96,
    middle=Setting(images=32),
    images=(16, 32),
    finding_sizes=(1.0, 1.6),
    shifts=(0.03, 0.08),
    validation_images=24,
    test_images=60,
    seeds=2,
    rates=(1e-3,),
    images_seen=32,
    fit=FitConfig(projection=8, flip=0.5),
    resamples=20,
)


def run(study: PhantomStudy, caches: Path, store: Store) -> dict[str, Any]:
    """Fit everything that is not in the store yet, and measure it.

    Returns:
        Everything the page needs, as plain values.

    Raises:
        OSError: If the network's weights can not be had, or the cache or the store can not be written.
    """
    settings = list(dict.fromkeys(setting for values in study.axes().values() for setting in values.values()))
    work = sum(_cost(study, setting) for setting in settings) * len(HEADS)
    progress = Progress("phantom", work)
    points: dict[Setting, dict[str, Any]] = {}
    for phantom, group in _by_phantom(study, settings).items():
        dataset = PhantomDataset(phantom)
        data = _maps(dataset, caches)
        for setting in group:
            points[setting] = _point(study, setting, dataset, data, store, progress)
    progress.close()
    axes = {
        axis: [{"value": value, **points[setting]} for value, setting in values.items()]
        for axis, values in study.axes().items()
    }
    return {"settings": _settings(study), "heads": list(HEADS), "axes": axes}


def _by_phantom(study: PhantomStudy, settings: Sequence[Setting]) -> dict[PhantomConfig, list[Setting]]:
    """Settings that differ in the number of training images alone share one phantom."""
    groups: dict[tuple[float, float], list[Setting]] = {}
    for setting in settings:
        groups.setdefault((setting.finding_size, setting.shift), []).append(setting)
    held_out = study.validation_images + study.test_images
    return {
        PhantomConfig(
            # A patient has up to 3 images, and none is cut in two by the end of a part.
            num_images=held_out + max(setting.images for setting in group) + 3 * 2,
            image_size=study.image_size,
            finding_size=finding_size,
            shift=shift,
            seed=_SEED,
        ): group
        for (finding_size, shift), group in groups.items()
    }


def _maps(dataset: PhantomDataset, caches: Path) -> tuple[str, LabelledMaps]:
    cached = cached_maps(dataset, CacheConfig(strides=(_STRIDE,)), caches)
    plain, mirrored = as_tensor(cached.plain[_STRIDE]), as_tensor(cached.mirrored[_STRIDE])
    return cached.folder.name, LabelledMaps(plain, mirrored, dataset.labels, dataset.label_set.mirror)


def parts(study: PhantomStudy, patients: npt.NDArray[np.str_], images: int) -> tuple[list[Rows], Rows, Rows]:
    """Rows of whole patients; the held-out ones are the same for all sizes of the training part.

    Args:
        study: Settings.
        patients: str (N,), images of a patient in a row.
        images: How many to train on.

    Returns:
        Training rows of each seed, validation rows, test rows.

    Raises:
        ValueError: If N is too small.
    """
    starts = np.flatnonzero(np.concatenate([[True], patients[1:] != patients[:-1]]))
    ends = np.append(starts, len(patients))
    test_end = ends[ends >= min(study.test_images, len(patients))][0]
    validation_end = ends[ends >= min(test_end + study.validation_images, len(patients))][0]
    pool = np.arange(validation_end, len(patients))
    if len(pool) < images:
        raise ValueError(
            f"patients must have as many rows as the parts need, got {len(pool)} to train on, not {images}"
        )
    train = [np.random.default_rng([_SEED, seed]).permutation(pool)[:images] for seed in range(study.seeds)]
    return [np.sort(rows) for rows in train], np.arange(test_end, validation_end), np.arange(test_end)


def _cost(study: PhantomStudy, setting: Setting) -> int:
    train = [np.arange(setting.images)] * study.seeds
    return cost(train, study.fit_of(setting), study.rates)


def _point(
    study: PhantomStudy,
    setting: Setting,
    dataset: XrayDataset,
    data: tuple[str, LabelledMaps],
    store: Store,
    progress: Progress,
) -> dict[str, Any]:
    """All heads in one setting."""
    train, validation, test = parts(study, dataset.patients, setting.images)
    problem = Problem({"maps": data[0]}, data[1], train, validation, test)
    fits = {
        name: fit_seeds(problem, head, study.fit_of(setting), study.rates, store, progress)
        for name, head in HEADS.items()
    }
    epochs = study.fit_of(setting).epochs
    labels = dataset.labels[test].numpy().astype(np.float64)
    weights = patient_resamples(dataset.patients[test], study.resamples, _SEED)
    measures = {
        measure_name: {
            name: measure(statistic, [record.scores for record in fits[name].records], labels, weights)
            for name in HEADS
        }
        for measure_name, statistic in statistics(dataset.label_set, np.zeros(len(test), dtype=np.int64)).items()
    }
    return {
        "setting": vars(setting),
        "images": [len(rows) for rows in train],
        "test images": len(test),
        "heads": {
            name: _head(fits[name], epochs, {key: values[name] for key, values in measures.items()}) for name in HEADS
        },
        "comparisons": list(_compare(measures)),
    }


def _head(fits: Fits, epochs: int, measures: Mapping[str, Measured]) -> dict[str, Any]:
    """A head in one setting; `epochs` is the most it may be fitted."""
    records = fits.records
    return {
        "rate": fits.rate,
        "parameters": records[0].parameters,
        "epochs": [record.epochs for record in records],
        "still improving": sum(record.best_epoch == epochs for record in records),
        "seconds": sum(record.seconds for record in records) / len(records),
        "measures": {
            name: {**estimate_to_json(value.estimate), "spread": value.spread} for name, value in measures.items()
        },
    }


def _compare(measures: Mapping[str, Mapping[str, Measured]]) -> Iterator[dict[str, Any]]:
    """Each SPF head against the best rival, by the scored images' macro AUROC, so in the rival's favour."""
    macro = measures[MACRO_AUROC]
    best = max(RIVALS, key=lambda name: macro[name].value)
    for spf in SPF:
        for name, values in measures.items():
            estimate = difference(values[spf], values[best])
            yield {
                "first": spf,
                "second": best,
                "measure": name,
                **estimate_to_json(estimate),
                "verdict": verdict(estimate),
            }


def _settings(study: PhantomStudy) -> dict[str, Any]:
    return {
        "image size": study.image_size,
        "seeds": study.seeds,
        "learning rates": list(study.rates),
        "images seen at most": study.images_seen,
        "epochs at most": study.epochs,
        "flip": study.fit.flip,
        "maps after the projection": study.fit.projection,
        "code size": CODE,
        "middle": vars(study.middle),
        "resamples": study.resamples,
    }
