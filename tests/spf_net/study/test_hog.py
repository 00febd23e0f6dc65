"""The probe: gradients are seen in their direction and place, and labels swap sides with the image."""

import numpy as np
import pytest
from spf_data.labels import Label, LabelSet
from spf_net.study.folds import Fold
from spf_net.study.hog import hog, probe


def stripes(angle: float, size: int = 64) -> np.ndarray:
    down, across = np.mgrid[:size, :size]
    return np.sin(0.6 * (across * np.cos(angle) + down * np.sin(angle))).astype(np.float32)


@pytest.mark.parametrize("number", [0, 2, 4, 7])
def test_stripes_fill_the_bin_of_their_direction(number: int) -> None:
    angle = (number + 0.5) * np.pi / 9
    features = hog(stripes(angle)[None]).reshape(-1, 9)
    assert (features.argmax(axis=1) == number).all()
    # blocks are normalised: contrast and brightness do not matter
    assert hog(5 + 3 * stripes(angle)[None]).reshape(-1, 9) == pytest.approx(features, abs=1e-3)


def test_blocks_have_length_one_and_too_small_images_are_refused() -> None:
    images = np.random.default_rng(0).random((3, 70, 64), dtype=np.float32)
    features = hog(images)
    assert features.shape == (3, 3 * 3 * 36)
    assert np.linalg.norm(features.reshape(3, 9, 36), axis=2) == pytest.approx(1, abs=1e-3)
    with pytest.raises(ValueError, match="images must be"):
        hog(images[:, :20])


def test_a_flip_teaches_the_other_side() -> None:
    # the training part shows the pattern on the right alone; only mirrored images tell how it looks on the left
    random = np.random.default_rng(1)
    images = random.random((120, 32, 64), dtype=np.float32)
    labels = np.zeros((120, 2), dtype=np.float32)
    present = random.random(120) < 0.5
    side = np.where(np.arange(120) < 60, 0, random.integers(0, 2, 120))
    for row in np.flatnonzero(present):
        images[row, :, 32 * side[row] :][:, :32] += 4 * stripes(0.3, 32)[:, :: 1 if side[row] == 0 else -1]
        labels[row, side[row]] = 1
    # a label needs both values in the training part
    labels[0], labels[1] = (0, 1), (0, 0)
    fold = Fold(np.arange(60), np.arange(60, 90), np.arange(90, 120))
    plain, mirrored = hog(images), hog(images[:, :, ::-1])
    sides = LabelSet((Label("right stripes", "stripes", "right"), Label("left stripes", "stripes", "left")))
    scores = probe(plain, mirrored, labels, sides, fold)
    truth = labels[fold.test]
    for label in range(2):
        assert scores[truth[:, label] == 1, label].mean() > scores[truth[:, label] == 0, label].mean() + 1
    assert scores.shape == (30, 2)
    assert scores.dtype == np.float32
