"""The probe that a network must beat: histograms of oriented gradients and one logistic regression a label."""

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from spf_data.boxes import mirrored_lungs
from spf_data.labels import LabelSet
from torch import Tensor

from spf_net.lung_frame import resample
from spf_net.study.folds import Fold

Features = npt.NDArray[np.float32]
# Pixels a side of what the histograms are made of.
_SIZE = 128
_BINS, _CELL, _CLIP, _EPS = 9, 16, 0.2, 1e-5
# Inverse strength of the penalty; the best on the validation part is taken, label by label.
_STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2)


def hog(images: npt.NDArray[np.float32]) -> Features:
    """Histograms of oriented gradients (Dalal and Triggs, 2005): 9 directions, cells of 16x16 pixels, blocks of 2x2.

    Args:
        images: float32 (N, H, W).

    Returns:
        float32 (N, features): 36 numbers a block, blocks overlap by one cell.

    Raises:
        ValueError: If a side is shorter than two cells.
    """
    if images.ndim != 3 or min(images.shape[1:]) < 2 * _CELL:
        raise ValueError(f"images must be (N, H, W) with sides of {2 * _CELL} at least, got {images.shape}")
    rows, columns = images.shape[1] // _CELL, images.shape[2] // _CELL
    down, across = np.gradient(images[:, : rows * _CELL, : columns * _CELL], axis=(1, 2))
    strength = np.hypot(down, across)
    direction = (np.arctan2(down, across) % np.pi / np.pi * _BINS).astype(np.int64) % _BINS
    cells = np.stack(
        [
            np.where(direction == number, strength, 0).reshape(-1, rows, _CELL, columns, _CELL).sum((2, 4))
            for number in range(_BINS)
        ],
        axis=3,
    )
    corners = [cells[:, top : rows - 1 + top, left : columns - 1 + left] for top in (0, 1) for left in (0, 1)]
    blocks = np.concatenate(corners, axis=3)
    # Normalised, clipped so that no edge rules its block, and normalised again.
    blocks = np.minimum(blocks / np.sqrt((blocks**2).sum(3, keepdims=True) + _EPS**2), _CLIP)
    blocks /= np.sqrt((blocks**2).sum(3, keepdims=True) + _EPS**2)
    features: Features = blocks.reshape(len(images), -1).astype(np.float32)
    return features


def framed_hog(images: Tensor, lungs: Tensor, margin: float | None, mirror: bool = False) -> Features:
    """Histograms of the images' lung frames, or of whole images, at 128x128.

    Args:
        images: (N, channels, H, W), float; the first channel counts.
        lungs: (N, 2, 4), see `spf_net.lung_frame.resample`.
        margin: Around the lungs, as a share of their box; none for the whole image.
        mirror: Of the flipped images, with their lungs.

    Returns:
        float32 (N, features).

    Raises:
        ValueError: If the shapes do not fit together.
    """
    if mirror:
        images, lungs = images.flip(3), mirrored_lungs(lungs)
    seen = images if margin is None else resample(images, lungs, margin)
    resized = torch.nn.functional.interpolate(seen[:, :1], size=(_SIZE, _SIZE), mode="area")
    return hog(resized[:, 0].numpy())


def probe(
    plain: Features, mirrored: Features | None, labels: npt.NDArray[np.float32], label_set: LabelSet, fold: Fold
) -> npt.NDArray[np.float32]:
    """Logits of the test part from a logistic regression of each label.

    Args:
        plain: float32 (N, features).
        mirrored: Of the flipped images, which are trained on beside the others, with their labels; or none.
        labels: float32 (N, L) of 1, 0 and NaN.
        label_set: L labels.
        fold: Parts of the N rows.

    Returns:
        float32 (test rows, L).

    Raises:
        ValueError: If the training part lacks positives or negatives of a label, or the validation part knows none.
    """
    features, truth = plain[fold.train], labels[fold.train]
    if mirrored is not None:
        features = np.concatenate([features, mirrored[fold.train]])
        truth = np.concatenate([truth, truth[:, list(label_set.mirror)]])
    for label, name in enumerate(label_set.names):
        if not {0.0, 1.0} <= set(truth[:, label]) or np.isnan(labels[fold.validation, label]).all():
            raise ValueError(
                "labels must be 1 and 0 somewhere in the training part and known somewhere in the validation part, "
                f"{name!r} is not"
            )
    logits = [
        _probe_label(
            features, truth[:, label], plain[fold.validation], labels[fold.validation, label], plain[fold.test]
        )
        for label in range(len(label_set))
    ]
    return np.stack(logits, axis=1).astype(np.float32)


def _probe_label(
    train: Features,
    truth: npt.NDArray[np.float32],
    validation: Features,
    validation_truth: npt.NDArray[np.float32],
    test: Features,
) -> npt.NDArray[np.float64]:
    known, checked = ~np.isnan(truth), ~np.isnan(validation_truth)
    models = [make_pipeline(StandardScaler(), LogisticRegression(C=each, max_iter=1000)) for each in _STRENGTHS]
    losses = [
        log_loss(
            validation_truth[checked],
            model.fit(train[known], truth[known]).predict_proba(validation[checked])[:, 1],
            labels=[0, 1],
        )
        for model in models
    ]
    logits: npt.NDArray[np.float64] = models[int(np.argmin(losses))].decision_function(test)
    return logits
