"""The macro AUROC of groups of patients, so that a network which fails some of them is seen to."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spf_net.bootstrap import patient_resamples, percentile_interval
from spf_net.evaluation import Estimate
from spf_net.metrics import check_scores, label_metrics, macro_auroc
from spf_net.ranking import FloatArray

MIN_IMAGES = 20
NOT_KNOWN = "not known"
AGE_BANDS: tuple[tuple[int, float], ...] = ((0, 20), (20, 40), (40, 60), (60, 80), (80, math.inf))

Strings = npt.NDArray[np.str_]


@dataclass(frozen=True)
class Subgroup:
    """One group of images.

    Attributes:
        attribute: What it is a group by: "sex", "age" or "view".
        name: Which one: "F", "40 to 59", "PA", "not known".
        images: Number of images.
        patients: Number of patients.
        macro_auroc: With its interval; NaN where there is a reason.
        labels_averaged: Over how many labels.
        reason: Why there is no value; "" where there is one.
    """

    attribute: str
    name: str
    images: int
    patients: int
    macro_auroc: Estimate
    labels_averaged: int
    reason: str


def evaluate_subgroups(
    scores: npt.ArrayLike,
    labels: npt.ArrayLike,
    patients: Strings,
    attributes: Mapping[str, Strings],
    resamples: int = 200,
    seed: int = 0,
) -> list[Subgroup]:
    """Every group by sex, age and view, those without a value among them.

    The macro AUROC of a group is over the labels that have known positives and negatives within it, which may be fewer
    than in another group: compare the number of labels before the values.

    Args:
        scores: (N, L), finite.
        labels: (N, L) of 1, 0 and NaN.
        patients: (N,), whose image each is.
        attributes: `XrayDataset.attributes` of these images: (N,) each under "sex", "age" (in years) and "view"; ""
            where not known. A key that is missing is known for no image.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        ValueError: If shapes do not fit together, a score is not finite, or an age is not a number of years.
    """
    scores, labels = check_scores(scores, labels)
    if patients.shape != (len(labels),):
        raise ValueError(f"patients must be ({len(labels)},), got {patients.shape}")
    result = []
    for attribute, expected in (("sex", ["F", "M"]), ("age", _band_names()), ("view", ["PA", "AP"])):
        values = attributes.get(attribute, np.full(len(labels), ""))
        if values.shape != (len(labels),):
            raise ValueError(f"attributes[{attribute!r}] must be ({len(labels)},), got {values.shape}")
        names = np.array([_age_band(age) for age in values]) if attribute == "age" else values
        others = sorted({str(name) for name in names} - {*expected, ""})
        for name in [*expected, *others, ""]:
            rows = names == name
            result.append(
                _subgroup(scores[rows], labels[rows], patients[rows], (attribute, name or NOT_KNOWN), resamples, seed)
            )
    return result


def _subgroup(
    scores: FloatArray, labels: FloatArray, patients: Strings, title: tuple[str, str], resamples: int, seed: int
) -> Subgroup:
    undefined = Estimate(math.nan, math.nan, math.nan)
    people = len(set(patients))
    if len(labels) < MIN_IMAGES:
        return Subgroup(*title, len(labels), people, undefined, 0, f"fewer than {MIN_IMAGES} images")
    defined = label_metrics(scores, labels).defined
    if defined == 0:
        return Subgroup(*title, len(labels), people, undefined, 0, "no label has known positives and negatives")
    value = macro_auroc(scores, labels, np.ones((1, len(labels))))[0]
    interval = percentile_interval(macro_auroc(scores, labels, patient_resamples(patients, resamples, seed)))
    return Subgroup(*title, len(labels), people, Estimate(float(value), *interval), defined, "")


def _band_name(low: float, high: float) -> str:
    return f"{low} and over" if math.isinf(high) else f"{low} to {high - 1}"


def _band_names() -> list[str]:
    return [_band_name(low, high) for low, high in AGE_BANDS]


def _age_band(age: str) -> str:
    if not age:
        return ""
    try:
        years = float(age)
    except ValueError:
        years = math.nan
    for low, high in AGE_BANDS:
        if low <= years < high:
            return _band_name(low, high)
    raise ValueError(f"age must be a number of years, got {str(age)!r}")
