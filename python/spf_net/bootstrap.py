"""Resampling by patient: images of one patient are not independent."""

import numpy as np
import numpy.typing as npt

from spf_net.ranking import FloatArray


def patient_resamples(patients: npt.NDArray[np.str_], resamples: int, seed: int) -> FloatArray:
    """How often each image occurs in each bootstrap resample of the patients.

    Args:
        patients: (N,), whose image each is.
        resamples: R.
        seed: Of the draws.

    Returns:
        float64 (R, N) of whole numbers; images of one patient always occur together.

    Raises:
        ValueError: If there are no images or no resamples are asked for.
    """
    if len(patients) == 0 or resamples < 1:
        raise ValueError(f"patients and resamples must be at least 1, got {len(patients)} and {resamples}")
    names, patient_of_image = np.unique(patients, return_inverse=True)
    random = np.random.default_rng(seed)
    draws = random.integers(0, len(names), (resamples, len(names)))
    counts = np.stack([np.bincount(draw, minlength=len(names)) for draw in draws])
    return counts[:, patient_of_image].astype(np.float64)


def percentile_interval(values: FloatArray, confidence: float = 0.95) -> tuple[float, float]:
    """The middle `confidence` of the values that are not NaN; NaN where none is left."""
    defined = values[~np.isnan(values)]
    if len(defined) == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
