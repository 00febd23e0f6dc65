"""The control: nothing but position tells the side."""

from dataclasses import replace

import numpy as np
import pytest
from spf_data import PhantomConfig, PhantomDataset
from spf_data.phantom.anatomy import sample_patient
from spf_data.phantom.catalogue import FINDINGS
from spf_data.phantom.plan import sample_findings
from spf_data.phantom.scene import render, sample_view
from spf_data.phantom.truth import labels_of

SIDED = [finding.name for finding in FINDINGS if finding.sided]


def _render(config, seed, change):
    random = np.random.default_rng(seed)
    patient, view = sample_patient(random), sample_view(random, config)
    specs = ()
    while not specs:
        specs = sample_findings(random, translated=config.anatomy == "translated")
    return render(patient, view, tuple(change(spec) for spec in specs), config)


def _swap(spec):
    return replace(spec, side=1 - spec.side)


@pytest.mark.parametrize("shift", [0.0, 0.08])
@pytest.mark.parametrize("seed", range(8))
def test_rolling_by_half_the_width_swaps_the_sides(seed, shift):
    config = PhantomConfig(image_size=64, anatomy="translated", shift=shift)
    original, swapped = _render(config, seed, lambda spec: spec), _render(config, seed, _swap)
    assert not np.array_equal(original.image, swapped.image)
    assert np.array_equal(np.roll(original.image, 32, axis=1), swapped.image)
    for mask, other in zip(original.masks, swapped.masks, strict=True):
        assert np.array_equal(np.roll(mask, 32, axis=1), other)


@pytest.mark.parametrize("seed", range(8))
def test_lung_boxes_are_half_the_width_apart_and_move_with_the_image(seed):
    still, moved = (PhantomConfig(image_size=64, anatomy="translated", shift=shift) for shift in (0.0, 0.08))
    random = np.random.default_rng(seed)
    sample_patient(random)
    columns = round(sample_view(random, moved).shift[0] * 64)
    before, after = (_render(config, seed, lambda spec: spec).lung_boxes * 64 for config in (still, moved))
    if "elevated hemidiaphragm" not in {spec.name for spec in _render(still, seed, lambda spec: spec).specs}:
        np.testing.assert_array_equal(after[1] - after[0], [32, 0, 0, 0])
    np.testing.assert_array_equal(after[:, 0], before[:, 0] + columns)
    np.testing.assert_array_equal(after[:, 2], before[:, 2])


@pytest.mark.parametrize("name", SIDED)
def test_each_finding_alone_looks_the_same_on_either_side(name):
    config = PhantomConfig(image_size=64, anatomy="translated", shift=0.03)
    right, left = (_render(config, 11, lambda spec, side=side: replace(spec, name=name, side=side)) for side in (0, 1))
    assert np.array_equal(np.roll(right.image, 32, axis=1), left.image)


def test_without_findings_the_halves_are_copies():
    config = PhantomConfig(image_size=64, anatomy="translated")
    random = np.random.default_rng(2)
    image = render(sample_patient(random), sample_view(random, config), (), config).image
    assert np.array_equal(image[:, :32], image[:, 32:])
    assert np.ptp(image) > 0.3


def test_the_normal_anatomy_does_not_have_this_property():
    config = PhantomConfig(image_size=64, shift=0.0)
    original, swapped = _render(config, 2, lambda spec: spec), _render(config, 2, _swap)
    assert np.abs(np.roll(original.image, 32, axis=1) - swapped.image).mean() > 0.05


def test_swapping_the_sides_mirrors_the_labels():
    config = PhantomConfig(num_images=1, image_size=64, anatomy="translated")
    label_set = PhantomDataset(config).label_set
    for seed in range(8):
        original, swapped = _render(config, seed, lambda spec: spec), _render(config, seed, _swap)
        assert np.array_equal(labels_of(original, label_set)[list(label_set.mirror)], labels_of(swapped, label_set))


def test_pixel_statistics_do_not_tell_the_side():
    dataset = PhantomDataset(PhantomConfig(num_images=400, image_size=64, anatomy="translated", noise=0.0))
    right, left = (dataset.label_set.index(f"{side} lower lobe pleural effusion") for side in ("right", "left"))
    levels = np.stack([np.sort(dataset[index]["image"].numpy().ravel()) for index in range(400)])
    labels = dataset.labels.numpy()
    only_right, only_left = labels[:, right] > labels[:, left], labels[:, left] > labels[:, right]
    gap = np.abs(levels[only_right].mean(axis=0) - levels[only_left].mean(axis=0)).max()
    spread = levels[only_right | only_left].std(axis=0).max()
    # Four standard errors of the difference of two means.
    assert gap < 4 * spread * np.sqrt(1 / only_right.sum() + 1 / only_left.sum())
