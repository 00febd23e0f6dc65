import numpy as np
import pytest
import torch
from spf_data import PhantomConfig, PhantomDataset
from spf_data.phantom.catalogue import FINDINGS, ZONES
from spf_data.phantom.truth import ZONE_SHARE


@pytest.fixture(scope="module")
def dataset():
    return PhantomDataset(PhantomConfig(num_images=1200, image_size=64, shift=0.0, seed=3))


def _images(dataset):
    return torch.stack([dataset[index]["image"] for index in range(len(dataset))])


def test_the_same_settings_give_the_same_data():
    config = PhantomConfig(num_images=6, image_size=64, seed=5)
    first, second = PhantomDataset(config), PhantomDataset(config)
    assert torch.equal(_images(first), _images(second))
    assert torch.equal(first.labels, second.labels)
    assert np.array_equal(first.patients, second.patients)


def test_another_seed_gives_other_images():
    first, second = (PhantomDataset(PhantomConfig(num_images=4, image_size=64, seed=seed)) for seed in (0, 1))
    assert (_images(first) != _images(second)).flatten(1).any(dim=1).all()
    assert set(first.patients).isdisjoint(second.patients)


def test_an_image_does_not_depend_on_how_many_there_are():
    few, many = (PhantomDataset(PhantomConfig(num_images=count, image_size=64, seed=5)) for count in (5, 12))
    assert torch.equal(_images(few), _images(many)[:5])
    assert torch.equal(few.labels, many.labels[:5])
    assert np.array_equal(few.patients, many.patients[:5])


def test_order_of_access_and_workers_change_nothing(dataset):
    forwards = [dataset[index]["image"] for index in range(8)]
    backwards = [dataset[index]["image"] for index in reversed(range(8))]
    assert all(torch.equal(a, b) for a, b in zip(forwards, reversed(backwards), strict=True))
    loader = torch.utils.data.DataLoader(torch.utils.data.Subset(dataset, range(8)), batch_size=4, num_workers=2)
    assert torch.equal(torch.cat([batch["image"] for batch in loader]), torch.stack(forwards))


def test_global_random_state_is_neither_read_nor_changed():
    config = PhantomConfig(num_images=2, image_size=64)
    first = _images(PhantomDataset(config))
    np.random.seed(1)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    assert torch.equal(_images(PhantomDataset(config)), first)
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_images_are_grey_values_between_0_and_1(dataset):
    images = _images(dataset)
    assert images.shape == (1200, 1, 64, 64)
    assert images.dtype == torch.float32
    assert images.min() >= 0
    assert images.max() <= 1
    assert images.flatten(1).std(dim=1).min() > 0.1


def test_a_label_holds_exactly_where_it_has_a_mask(dataset):
    for index in range(100):
        present = torch.from_numpy(dataset.mask(index).any(axis=(1, 2))).float()
        assert torch.equal(present, dataset.labels[index])


def test_masks_of_a_side_lie_in_its_half_of_the_image(dataset):
    # The patient's right is on the image's left; without shift the midline is the image's.
    halves = {"right": slice(0, 32), "left": slice(32, 64)}
    for index in range(100):
        mask = dataset.mask(index)
        for number, label in enumerate(dataset.label_set.labels):
            if label.side in halves:
                assert mask[number].sum() == mask[number][:, halves[label.side]].sum()


def test_masks_of_a_zone_lie_in_that_third_of_the_lung(dataset):
    for index in range(100):
        mask, lungs = dataset.mask(index), dataset.scene(index).lungs
        for number, label in enumerate(dataset.label_set.labels):
            if label.zone:
                rows = np.flatnonzero(mask[number].any(axis=1))
                zone = lungs[("right", "left").index(label.side)].zone(ZONES.index(label.zone))
                assert np.isin(rows, np.arange(64)[zone]).all()


def test_a_zone_counts_from_a_quarter_of_the_mask(dataset):
    checked = {True: 0, False: 0}
    for index in range(200):
        scene = dataset.scene(index)
        for zone in ZONES:
            for side, name in enumerate(("right", "left")):
                masks = [
                    mask
                    for spec, mask in zip(scene.specs, scene.masks, strict=True)
                    if (spec.name, spec.side) == ("consolidation", side)
                ]
                rows = scene.lungs[side].zone(ZONES.index(zone))
                expected = any(mask[rows].sum() >= ZONE_SHARE * mask.sum() for mask in masks)
                label = dataset.labels[index, dataset.label_set.index(f"{name} {zone} zone consolidation")]
                assert bool(label) == expected
                checked[expected] += bool(masks)
    assert min(checked.values()) > 10


def test_some_findings_straddle_zones(dataset):
    zones = [dataset.label_set.index(f"right {zone} zone consolidation") for zone in ZONES]
    assert (dataset.labels[:, zones].sum(dim=1) > 1).sum() > 10


def test_bilateral_labels_hold_exactly_when_both_sides_do(dataset):
    labels = dataset.label_set.labels
    bilateral = [number for number, label in enumerate(labels) if label.side == "bilateral"]
    assert len(bilateral) == 7
    for number in bilateral:
        right, left = (
            dataset.labels[
                :, [k for k, x in enumerate(labels) if (x.finding, x.side) == (labels[number].finding, side)]
            ].any(dim=1)
            for side in ("right", "left")
        )
        assert torch.equal(dataset.labels[:, number].bool(), right & left)


def test_every_label_is_common_enough_to_measure(dataset):
    prevalence = dataset.labels.mean(dim=0)
    assert prevalence.min() > 0.02
    assert prevalence.max() < 0.2
    assert 3 < dataset.labels.sum(dim=1).mean() < 4


def test_patients_have_one_to_three_images_of_one_anatomy(dataset):
    names, counts = np.unique(dataset.patients, return_counts=True)
    assert set(counts) == {1, 2, 3}
    apex = np.array([64 * dataset.scene(index).lungs[0].box[0] for index in range(100)])
    within = [np.ptp(apex[dataset.patients[:100] == name]) for name in names if name in dataset.patients[:100]]
    # One row, because an elevated hemidiaphragm changes the lung's shape a little up to its tip.
    assert max(within) <= 1
    assert np.std(apex) > 1


def test_shift_moves_the_patient_by_no_more_than_asked():
    still, moved = (PhantomDataset(PhantomConfig(num_images=20, image_size=64, shift=shift)) for shift in (0.0, 0.08))
    rows = []
    for index in range(20):
        tops = [
            np.flatnonzero((lung.lung > 0.5).any(axis=1))[0]
            for lung in (still.scene(index).lungs[0], moved.scene(index).lungs[0])
        ]
        rows.append(tops[1] - tops[0])
    assert np.abs(rows).max() <= 0.08 * 64 + 1
    assert np.std(rows) > 1


def test_lung_boxes_hold_the_lungs_tightly(dataset):
    assert torch.equal(dataset[7]["lungs"], dataset.lung_boxes[7])
    for index in range(50):
        for lung, box in zip(dataset.scene(index).lungs, dataset.lung_boxes[index].numpy() * 64, strict=True):
            solid = np.zeros((64, 64), bool)
            solid[:, lung.columns] = lung.lung > 0.5
            x, y, width, height = (int(value) for value in box)
            assert np.array_equal(box, [x, y, width, height])
            assert solid.sum() == solid[y : y + height, x : x + width].sum()
            for edge in (solid[y], solid[y + height - 1], solid[:, x], solid[:, x + width - 1]):
                assert edge.any()


def test_images_of_two_sizes_show_the_same_findings():
    small, large = (PhantomDataset(PhantomConfig(num_images=40, image_size=size, shift=0.0)) for size in (64, 256))
    assert (small.labels == large.labels).float().mean() > 0.99


def test_finding_size_scales_the_masks():
    areas = []
    for size in (0.7, 1.0, 1.5):
        dataset = PhantomDataset(PhantomConfig(num_images=30, image_size=64, finding_size=size))
        areas.append(sum(int(mask.sum()) for index in range(30) for mask in dataset.scene(index).masks))
    assert 1.2 * areas[0] < areas[1] < areas[2] / 1.2


def test_contrast_scales_what_a_finding_adds():
    faint, plain, strong = (
        np.stack([dataset.scene(index).image for index in range(30)])
        for dataset in (
            PhantomDataset(PhantomConfig(num_images=30, image_size=64, contrast=c)) for c in (0.001, 1.0, 2.0)
        )
    )
    assert 1.5 * np.abs(plain - faint).mean() < np.abs(strong - faint).mean()


def test_the_control_has_55_labels_and_all_maps():
    dataset = PhantomDataset(PhantomConfig(num_images=2, image_size=64, anatomy="translated", mode="maps"))
    assert dataset[0]["image"].shape == (len(FINDINGS), 64, 64)
    assert dataset.labels.shape == (2, 55)


def test_maps_have_one_channel_a_finding():
    config = PhantomConfig(num_images=60, image_size=64, mode="maps", noise=0.0)
    dataset = PhantomDataset(config)
    pictures = PhantomDataset(PhantomConfig(num_images=60, image_size=64))
    assert torch.equal(dataset.labels, pictures.labels)
    for index in range(60):
        image = dataset[index]["image"].numpy()
        assert image.shape == (len(FINDINGS), 64, 64)
        present = {spec.name for spec in dataset.scene(index).specs}
        for channel, finding in zip(image, FINDINGS, strict=True):
            assert (np.ptp(channel) > 0.02) == (finding.name in present)


def test_maps_are_high_where_the_finding_is():
    dataset = PhantomDataset(PhantomConfig(num_images=30, image_size=64, mode="maps"))
    compared = 0
    for index in range(30):
        scene, image = dataset.scene(index), dataset[index]["image"].numpy()
        for spec, mask in zip(scene.specs, scene.masks, strict=True):
            if mask.sum() > 50:
                channel = image[[finding.name for finding in FINDINGS].index(spec.name)]
                assert channel[mask].mean() > channel[~mask].mean() + 0.05
                compared += 1
    assert compared > 20


def test_an_index_out_of_range_is_refused(dataset):
    for call in (dataset.scene, dataset.mask, dataset.__getitem__):
        with pytest.raises(IndexError, match="got 1200"):
            call(1200)
