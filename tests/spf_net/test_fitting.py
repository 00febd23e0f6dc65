"""Fits on maps in memory: they learn, repeat themselves, stop early, and flip labels with maps."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from spf_net.fitting import FitConfig, LabelledMaps, fit, fit_best_rate, scores
from spf_net.heads import HeadConfig
from spf_net.losses import masked_bce
from spf_net.metrics import label_metrics

HEAD = HeadConfig(code_size=4, activation=None, reconstruction_weight=0.1)
CONFIG = FitConfig(projection=4, lr=1e-2, epochs=8, patience=3, batch_size=16)
TRAIN, VALIDATION, TEST = np.arange(120), np.arange(120, 160), np.arange(160, 240)


def maps(seed: int = 0, count: int = 240) -> LabelledMaps:
    """A bright spot in the left half of the map is the first label, in the right half the second."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, (count, 2)).astype(np.float32)
    plain = random.standard_normal((count, 3, 4, 4)).astype(np.float32) * 0.3
    place = random.integers(0, (4, 2), (count, 2))
    for index in range(count):
        row, column = place[index]
        plain[index, 1, row, column] += 3 * labels[index, 0]
        plain[index, 1, row, column + 2] += 3 * labels[index, 1]
    labels[random.random(labels.shape) < 0.1] = np.nan
    tensor = torch.from_numpy(plain).half()
    return LabelledMaps(tensor, tensor.flip(3), torch.from_numpy(labels), (1, 0))


def test_a_fit_learns_where_the_spot_is_and_repeats_itself() -> None:
    data, state = maps(), torch.random.get_rng_state()
    first, second = (fit(data, TRAIN, VALIDATION, HEAD, CONFIG) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    logits = scores(first.network, data, TEST)
    assert label_metrics(logits, data.labels[TEST].numpy()).auroc.min() > 0.95
    assert np.array_equal(logits, scores(second.network, data, TEST))
    other = fit(data, TRAIN, VALIDATION, HEAD, replace(CONFIG, seed=1))
    assert not np.array_equal(logits, scores(other.network, data, TEST))
    assert 0 < first.head_share <= 1
    # Projection, encoders and decoders, dense layer.
    assert first.parameters == (3 * 4 + 4) + 4 * (2 * 16 * 4 + 4 + 16) + (16 * 2 + 2)


def test_the_weights_are_those_of_the_best_epoch() -> None:
    data = maps()
    config = replace(CONFIG, lr=0.3, epochs=30)
    found = fit(data, TRAIN, VALIDATION, HEAD, config)
    assert found.best_epoch < found.epochs
    assert found.epochs == min(30, found.best_epoch + config.patience)
    loss = masked_bce(torch.from_numpy(scores(found.network, data, VALIDATION)), data.labels[VALIDATION])
    assert float(loss) == pytest.approx(found.validation_loss, abs=1e-6)
    until_best = fit(data, TRAIN, VALIDATION, HEAD, replace(config, epochs=found.best_epoch))
    assert np.array_equal(scores(until_best.network, data, TEST), scores(found.network, data, TEST))


def test_flipped_maps_come_with_swapped_labels() -> None:
    data = maps()
    rows = torch.arange(6)
    flipped = torch.tensor([True, False, True, False, False, True])
    seen, labels = data.batch(rows, flipped)
    for index in range(6):
        expected = data.plain[index].flip(2) if flipped[index] else data.plain[index]
        truth = data.labels[index].flip(0) if flipped[index] else data.labels[index]
        assert torch.equal(seen[index], expected.float())
        assert torch.equal(labels[index].nan_to_num(2), truth.nan_to_num(2))
    assert torch.equal(data.batch(rows)[0], data.plain[:6].float())


def test_flips_teach_the_side_that_was_never_seen() -> None:
    data = maps()
    # Nothing is known of the second label but in mirrored images.
    labels = data.labels.clone()
    labels[TRAIN, 1] = np.nan
    one_sided = LabelledMaps(data.plain, data.mirrored, labels, data.mirror)
    without = fit(one_sided, TRAIN, VALIDATION, HEAD, CONFIG)
    with_flips = fit(one_sided, TRAIN, VALIDATION, HEAD, replace(CONFIG, flip=0.5, epochs=20))
    truth = data.labels[TEST].numpy()
    aurocs = [label_metrics(scores(found.network, data, TEST), truth).auroc[1] for found in (without, with_flips)]
    assert aurocs[1] > 0.9 > aurocs[0]


def test_every_head_sees_the_same_projection_at_the_start() -> None:
    data = maps()
    never = replace(CONFIG, epochs=1, lr=1e-30)
    heads = (HEAD, HeadConfig(name="square_pooling"), HeadConfig(name="adaptive_flatten", grid=2))
    seen = [fit(data, TRAIN, VALIDATION, head, never).network.maps(data.batch(torch.arange(3))[0]) for head in heads]
    assert all(torch.equal(seen[0], each) for each in seen[1:])
    plain = fit(data, TRAIN, VALIDATION, HEAD, replace(never, projection=None)).network
    handed_on = plain.maps(data.batch(torch.arange(120))[0])
    assert handed_on.shape == (120, 3, 4, 4)
    torch.testing.assert_close(handed_on.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-3)
    torch.testing.assert_close(handed_on.std((0, 2, 3)), torch.ones(3), rtol=0, atol=1e-2)


def test_the_rate_with_the_lowest_validation_loss_is_kept() -> None:
    data = maps()
    rate, found = fit_best_rate(data, TRAIN, VALIDATION, HEAD, CONFIG, (1e-6, 1e-2))
    assert rate == 1e-2
    assert found.validation_loss == fit(data, TRAIN, VALIDATION, HEAD, CONFIG).validation_loss
    with pytest.raises(ValueError, match="rates must not be empty"):
        fit_best_rate(data, TRAIN, VALIDATION, HEAD, CONFIG, ())


def test_invalid_arguments_are_refused() -> None:
    data = maps()
    with pytest.raises(ValueError, match="validation must hold at least one row"):
        fit(data, TRAIN, TRAIN[:0], HEAD, CONFIG)
    with pytest.raises(ValueError, match=r"flip must be 0 without mirrored maps, got 0\.5"):
        fit(replace(data, mirrored=None), TRAIN, VALIDATION, HEAD, replace(CONFIG, flip=0.5))
    with pytest.raises(ValueError, match=r"mirrored must be \(240, 3, 4, 4\), got \(2, 3, 4, 4\)"):
        replace(data, mirrored=data.plain[:2])
    with pytest.raises(TypeError, match=r"plain must be floating point, got torch\.int64"):
        replace(data, plain=data.plain.long())
    with pytest.raises(ValueError, match=r"flip must be in \[0, 1\], got 2"):
        FitConfig(flip=2)
    with pytest.raises(ValueError, match="lr must be positive"):
        FitConfig(lr=0)
    with pytest.raises(ValueError, match="patience must be at least 1, got 0"):
        FitConfig(patience=0)
    with pytest.raises(FloatingPointError, match="the validation loss is"):
        fit(data, TRAIN, VALIDATION, HEAD, replace(CONFIG, lr=1e30))
