"""The one primitive behind the ranking metrics: AUROC under many sets of weights at once."""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def weighted_auroc(scores: npt.ArrayLike, targets: npt.ArrayLike, weights: FloatArray) -> FloatArray:
    """AUROC, once for each row of weights; ties count half.

    With one row of ones it is scikit-learn's `roc_auc_score`; with rows of counts it is that of resamples, at the cost
    of a single sort.

    Args:
        scores: (N,), higher for positive.
        targets: bool (N,).
        weights: float64 (R, N), not negative.

    Returns:
        float64 (R,), NaN where the positives or the negatives weigh nothing.

    Raises:
        ValueError: If the shapes do not fit together or a score is not finite.
    """
    values = np.asarray(scores, dtype=np.float64)
    positive = np.asarray(targets, dtype=bool)
    if values.ndim != 1 or positive.shape != values.shape or weights.ndim != 2 or weights.shape[1:] != values.shape:
        raise ValueError(
            f"scores, targets, weights must be (N,), (N,), (R, N), got {values.shape}, {positive.shape}, "
            f"{weights.shape}"
        )
    if not np.isfinite(values).all():
        raise ValueError(f"scores must be finite, got {np.count_nonzero(~np.isfinite(values))} that are not")
    order = np.argsort(values)
    values, positive, weights = values[order], positive[order], weights[:, order]
    negatives = np.where(positive, 0.0, weights).cumsum(axis=1)
    negatives = np.concatenate([np.zeros((len(weights), 1)), negatives], axis=1)
    own = values[positive]
    below = negatives[:, np.searchsorted(values, own, side="left")]
    not_above = negatives[:, np.searchsorted(values, own, side="right")]
    own_weights = weights[:, positive]
    ranked = (own_weights * (below + not_above)).sum(axis=1) / 2
    pairs = own_weights.sum(axis=1) * negatives[:, -1]
    return ratio(ranked, pairs)


def weighted_mean(values: FloatArray, weights: FloatArray) -> FloatArray:
    """Mean over the first axis of the values that are not NaN; NaN where nothing is left.

    Args:
        values: float64 (K, R).
        weights: float64 (K, R), not negative.

    Returns:
        float64 (R,).
    """
    weights = np.where(np.isnan(values), 0.0, weights)
    total = weights.sum(axis=0)
    summed = (np.nan_to_num(values) * weights).sum(axis=0)
    return ratio(summed, total)


def ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Elementwise quotient, NaN where the denominator is 0."""
    quotient = np.full(denominator.shape, np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient
