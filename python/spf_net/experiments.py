"""What is fitted to make the paper's tables on data that anybody can have: data sets, methods, levers, seeds."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from spf_data.boxes import mirrored_lungs
from spf_data.dataset import XrayDataset
from spf_data.registry import DataConfig, build_dataset
from spf_data.splits import grouped_split

from spf_net.cached_maps import CacheConfig, as_tensor, cached_maps, in_lung_frame
from spf_net.evaluation import Evaluation, evaluate_rows
from spf_net.fitting import Fit, FitConfig, LabelledMaps, Rows, fit, fit_best_rate, scores
from spf_net.heads import HeadConfig
from spf_net.report import or_null

StudyName = Literal["phantom", "cxr-zones"]
Kind = Literal["method", "code", "stage"]

# By name: which part of the image fills the maps, and the probability of a flip.
LEVERS: dict[str, tuple[str, float]] = {
    "neither": ("image", 0.0),
    "flips": ("image", 0.5),
    "lung frame": ("lungs", 0.0),
    "both": ("lungs", 0.5),
}
# The default of `spf_net.lung_frame.FrameConfig`.
_MARGIN = 0.05
_ROUNDED = 5


@dataclass(frozen=True)
class Plan:
    """Sizes of the reproduction.

    Attributes:
        images: Of the phantom.
        image_size: In pixels, of both data sets.
        shift: Of the phantom's patients, see `PhantomConfig`.
        stride: Image pixels per pixel of the frozen maps.
        stages: Strides that the layer ablation compares.
        projection: Maps that the head sees, see `FitConfig`.
        code_size: Of the spf heads and of those that are cut to its size.
        code_sizes: What Table 3 compares.
        seeds: Each has its own split and its own weights.
        folds: Of the cross-validation on cxr-zones, which is too small for one test part.
        epochs: See `FitConfig`.
        patience: See `FitConfig`.
        rates: Learning rates, of which every head's is the best on the validation part.
        pretrained: Whether the frozen network has its ImageNet weights.
    """

    images: int = 800
    image_size: int = 256
    shift: float = 0.03
    stride: int = 16
    stages: tuple[int, ...] = (4, 8, 16, 32)
    projection: int = 64
    code_size: int = 16
    code_sizes: tuple[int, ...] = (2, 4, 8, 16, 32, 64)
    seeds: int = 3
    folds: int = 4
    epochs: int = 60
    patience: int = 6
    rates: tuple[float, ...] = (1e-3, 4e-3)
    pretrained: bool = True

    @property
    def map_side(self) -> int:
        """Pixels of a map along each axis."""
        return self.image_size // self.stride


# Everything runs, nothing can be concluded from it.
QUICK = Plan(
    images=60,
    image_size=128,
    projection=8,
    code_sizes=(2, 4),
    stages=(8, 16),
    seeds=2,
    folds=2,
    epochs=2,
    rates=(4e-3,),
    pretrained=False,
)


@dataclass(frozen=True)
class Task:
    """One head on one data set with one seed: what is run, and kept, as a whole.

    Attributes:
        study: The data set.
        kind: "method": a row of Table 2, with every lever; "code", "stage": the spf head with another code size, or on
            the maps of another stage, without levers.
        variant: Which one: a name of `methods`, a code size or a stride.
        seed: Counts from 0.
    """

    study: StudyName
    kind: Kind
    variant: str
    seed: int

    @property
    def key(self) -> str:
        """Its name among the results."""
        return f"{self.study}/{self.kind}/{self.variant}/{self.seed}"


def methods(code_size: int, projection: int) -> dict[str, HeadConfig]:
    """The heads of Table 2, the paper's first.

    Args:
        code_size: D.
        projection: C, the maps a head sees.
    """
    spf = HeadConfig(name="spf", code_size=code_size)
    return {
        "SPF": spf,
        "SPF without decoder loss": replace(spf, reconstruction_weight=0.0),
        "SPF, frozen random encoders": replace(spf, reconstruction_weight=0.0, frozen=True),
        "SPF, started as a grid of averages": replace(spf, init="grid"),
        "SPF, started as a DCT": replace(spf, init="dct"),
        "SPF, one auto-encoder for all maps": replace(spf, name="shared_autoencoder"),
        "average pooling": replace(spf, name="average_pooling"),
        "square pooling": replace(spf, name="square_pooling"),
        # As many features as SPF has; 16,384 at the paper's size.
        "square pooling, projected": replace(
            spf, name="square_pooling_projected", projections=code_size * projection
        ),
        "4x4 pooling + flatten": replace(spf, name="adaptive_flatten", grid=4),
        "8x8 pooling + flatten": replace(spf, name="adaptive_flatten", grid=8),
        "plain flatten": replace(spf, name="flatten"),
        "DCT codes": replace(spf, name="dct"),
        "convolution + pooling + flatten": replace(spf, name="convolution"),
    }  # fmt: skip


def tasks(plan: Plan, studies: tuple[StudyName, ...]) -> list[Task]:
    """Everything there is to run; tasks that share their maps follow each other."""
    listed = []
    for study in studies:
        names = methods(plan.code_size, plan.projection)
        listed += [Task(study, "method", name, seed) for seed in range(plan.seeds) for name in names]
        if study == "phantom":
            listed += [Task(study, "code", str(size), seed) for size in plan.code_sizes for seed in range(plan.seeds)]
            listed += [Task(study, "stage", str(stage), seed) for stage in plan.stages for seed in range(plan.seeds)]
    return listed


def data_config(study: StudyName, plan: Plan, root: Path | None) -> DataConfig:
    """The settings of a study's data set.

    Args:
        study: Its name.
        plan: Sizes.
        root: Folder of cxr-zones.

    Raises:
        ValueError: If the study is unknown.
    """
    if study not in get_args(StudyName):
        raise ValueError(f"study must be one of {get_args(StudyName)}, got {study!r}")
    if study == "phantom":
        return DataConfig(name=study, num_images=plan.images, image_size=plan.image_size, shift=plan.shift)
    return DataConfig(name=study, image_size=plan.image_size, root=root, on_error="skip")


@dataclass(frozen=True)
class StudyMaps:
    """A data set with its maps of one stage.

    Attributes:
        dataset: Its labels, patients and sources.
        frames: By frame, "image" or "lungs".
    """

    dataset: XrayDataset
    frames: Mapping[str, LabelledMaps]


def cache_config(plan: Plan) -> CacheConfig:
    """The maps that all tasks of a study need."""
    strides = tuple(sorted({*plan.stages, plan.stride}))
    return CacheConfig(strides=strides, largest_map=plan.map_side, pretrained=plan.pretrained)


# Two: a study's maps, and those of another stage.
@lru_cache(maxsize=2)
def study_maps(study: StudyName, plan: Plan, root: Path | None, cache: Path, stride: int) -> StudyMaps:
    """Load the maps of a study, or make them.

    Args:
        study: The data set.
        plan: Sizes.
        root: Folder of cxr-zones.
        cache: Folder of the cached maps.
        stride: Of the stage.
    """
    dataset = build_dataset(data_config(study, plan, root))
    cached = cached_maps(dataset, cache_config(plan), cache)
    plain, mirrored, lungs = cached.plain[stride], cached.mirrored[stride], dataset.lung_boxes
    known = (dataset.labels, dataset.label_set.mirror)
    framed = in_lung_frame(plain, lungs, _MARGIN), in_lung_frame(mirrored, mirrored_lungs(lungs), _MARGIN)
    return StudyMaps(
        dataset,
        {
            "image": LabelledMaps(as_tensor(plain), as_tensor(mirrored), *known),
            "lungs": LabelledMaps(*framed, *known),
        },
    )


def parts(patients: npt.NDArray[np.str_], seed: int, folds: int) -> list[tuple[Rows, Rows, Rows]]:
    """Rows to train on, to stop on and to test on, by patient.

    Args:
        patients: (N,).
        seed: Another one gives another split.
        folds: 1 for one split of 70, 10 and 20 %, as the paper's; more for a cross-validation in which each patient is
            tested once, and 15 % of the others say when to stop.

    Raises:
        ValueError: If there are fewer patients than folds.
    """
    if folds == 1:
        split = grouped_split(patients, (0.7, 0.1, 0.2), seed)
        return [(split["train"], split["validation"], split["test"])]
    names, of_row = np.unique(patients, return_inverse=True)
    if len(names) < folds:
        raise ValueError(f"folds must be at most the {len(names)} patients, got {folds}")
    fold_of_row = (np.random.default_rng(seed).permutation(len(names)) % folds)[of_row]
    found = []
    for fold in range(folds):
        others = np.flatnonzero(fold_of_row != fold)
        split = grouped_split(patients[others], (0.85, 0.15, 0.0), seed)
        found.append((others[split["train"]], others[split["validation"]], np.flatnonzero(fold_of_row == fold)))
    return found


def run_task(task: Task, plan: Plan, root: Path | None, cache: Path) -> dict[str, Any]:
    """Fit and test one head.

    The learning rate is chosen on the validation part, without levers, and kept with them.

    Args:
        task: Which one.
        plan: Sizes.
        root: Folder of cxr-zones.
        cache: Folder of the cached maps.

    Returns:
        By lever: plain values for JSON.
    """
    stride = int(task.variant) if task.kind == "stage" else plan.stride
    maps = study_maps(task.study, plan, root, cache, stride)
    split = parts(maps.dataset.patients, task.seed, 1 if task.study == "phantom" else plan.folds)
    config = FitConfig(plan.projection, epochs=plan.epochs, patience=plan.patience, seed=task.seed)
    head = _head(task, plan)
    first = maps.frames["image"]
    chosen = [fit_best_rate(first, train, validation, head, config, plan.rates) for train, validation, _ in split]
    fits = {"neither": [found for _, found in chosen]}
    rates = [rate for rate, _ in chosen]
    for lever in LEVERS if task.kind == "method" else []:
        if lever not in fits:
            frame, flip = LEVERS[lever]
            fits[lever] = [
                fit(maps.frames[frame], train, validation, head, replace(config, lr=rate, flip=flip))
                for (train, validation, _), rate in zip(split, rates, strict=True)
            ]
    tested = [test for _, _, test in split]
    return {lever: {"rates": rates, **_summary(found, tested, maps, LEVERS[lever][0])} for lever, found in fits.items()}


def _head(task: Task, plan: Plan) -> HeadConfig:
    listed = methods(plan.code_size, plan.projection)
    if task.kind == "method":
        return listed[task.variant]
    return replace(listed["SPF"], code_size=int(task.variant)) if task.kind == "code" else listed["SPF"]


def _summary(fits: list[Fit], tested: list[Rows], maps: StudyMaps, frame: str) -> dict[str, Any]:
    data = maps.frames[frame]
    outputs = [scores(found.network, data, rows) for found, rows in zip(fits, tested, strict=True)]
    # Seeds show the spread, so no resample is looked at.
    evaluations = evaluate_rows(np.concatenate(outputs), np.concatenate(tested), maps.dataset, resamples=1, seed=0)
    return {
        "epochs": round(float(np.mean([found.epochs for found in fits])), 1),
        "seconds": round(sum(found.seconds for found in fits), 2),
        "parameters": fits[0].parameters,
        "head_share": round(float(np.mean([found.head_share for found in fits])), 3),
        "evaluation": {source: _measures(evaluation) for source, evaluation in evaluations.items()},
    }


def _measures(evaluation: Evaluation) -> dict[str, Any]:
    values = {
        **{name: estimate.value for name, estimate in evaluation.metrics.items()},
        "average_precision": evaluation.macro_average_precision,
        "brier": evaluation.calibration.macro_brier,
        "calibration_error": evaluation.calibration.macro_error,
    }
    return {
        "images": evaluation.images,
        **{name: _plain(value) for name, value in values.items()},
        "labels": [_plain(float(value)) for value in evaluation.labels.auroc],
    }


def _plain(value: float) -> float | None:
    return or_null(round(value, _ROUNDED))
