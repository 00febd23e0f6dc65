"""Flip, rotation and shift."""

import math

import pytest
import torch
from spf_data.labels import Label, LabelSet
from spf_net.augment import mirror, random_mirror, rotate_and_shift

LABELS = LabelSet(
    (
        Label("right mass", "mass", "right"),
        Label("heart", "heart", "none"),
        Label("left mass", "mass", "left"),
        Label("both", "mass", "bilateral"),
    )
)
NOWHERE = torch.full((1, 2, 4), math.nan)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(size: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = generator(seed)
    labels = (torch.rand(size, 4, generator=random) < 0.5).float()
    labels[torch.rand(size, 4, generator=random) < 0.2] = math.nan
    lungs = torch.rand(size, 2, 4, generator=random)
    lungs[0, 1] = math.nan
    return torch.rand(size, 1, 8, 8, generator=random), labels, lungs


def same(first: torch.Tensor, second: torch.Tensor) -> bool:
    return torch.equal(first.nan_to_num(-1), second.nan_to_num(-1))


def test_a_flip_swaps_columns_sides_and_lungs() -> None:
    image = torch.arange(4.0).view(1, 1, 1, 4)
    lungs = torch.tensor([[[0.125, 0.25, 0.25, 0.5], [0.5, 0.375, 0.375, 0.25]]])
    flipped, labels, boxes = mirror(image, torch.tensor([[1.0, 1, 0, math.nan]]), lungs, LABELS.mirror)
    assert flipped.flatten().tolist() == [3, 2, 1, 0]
    assert same(labels, torch.tensor([[0.0, 1, 1, math.nan]]))
    assert torch.equal(boxes, torch.tensor([[[0.125, 0.375, 0.375, 0.25], [0.625, 0.25, 0.25, 0.5]]]))


def test_two_flips_change_nothing() -> None:
    images, labels, lungs = batch(6)
    again = mirror(*mirror(images, labels, lungs, LABELS.mirror), LABELS.mirror)
    assert torch.equal(again[0], images)
    assert same(again[1], labels)
    torch.testing.assert_close(again[2], lungs, equal_nan=True)


def test_a_flipped_batch_is_the_batch_of_flipped_images_with_swapped_labels() -> None:
    images, labels, lungs = batch(40)
    flipped = random_mirror(images, labels, lungs, LABELS.mirror, 0.5, generator(3))
    chosen = 0
    for row in range(40):
        own = (images[row : row + 1], labels[row : row + 1], lungs[row : row + 1])
        is_flipped = not torch.equal(flipped[0][row : row + 1], own[0])
        expected = mirror(*own, LABELS.mirror) if is_flipped else own
        assert all(same(got[row : row + 1], wanted) for got, wanted in zip(flipped, expected, strict=True))
        chosen += is_flipped
    assert 10 < chosen < 30


def test_probabilities_0_and_1_and_the_generator() -> None:
    original = batch(8)
    untouched = generator(1)
    state = untouched.get_state()
    assert random_mirror(*original, LABELS.mirror, 0.0, untouched) == original
    assert torch.equal(untouched.get_state(), state)
    always = random_mirror(*original, LABELS.mirror, 1.0, generator(1))
    assert all(same(*pair) for pair in zip(always, mirror(*original, LABELS.mirror), strict=True))
    first, again, other = (random_mirror(*original, LABELS.mirror, 0.5, generator(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_mirror_of_other_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="mirrored must have 4 indices, one a label, got 2"):
        mirror(*batch(2), (1, 0))


def test_nothing_to_do_leaves_images_and_lungs_alone() -> None:
    images, _, lungs = batch(2)
    moved, boxes = rotate_and_shift(images, lungs, 0.0, 0.0, generator())
    assert moved is images
    assert boxes is lungs


def test_the_generator_decides_and_each_image_has_its_own_amounts() -> None:
    images = torch.rand(1, 1, 16, 16, generator=generator()).expand(3, -1, -1, -1)
    lungs = NOWHERE.expand(3, 2, 4)
    first, again, other = (rotate_and_shift(images, lungs, 10.0, 0.1, generator(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])


def test_a_bright_spot_moves_by_no_more_than_the_shift() -> None:
    images = torch.zeros(64, 1, 41, 41)
    images[:, :, 20, 20] = 1
    moved, _ = rotate_and_shift(images, NOWHERE.expand(64, 2, 4), 0.0, 0.1, generator(3))
    columns = (moved.sum(dim=(1, 2)) * torch.arange(41)).sum(dim=1) / moved.sum(dim=(1, 2, 3))
    distance = (columns - 20).abs()
    assert distance.max() <= 4.1 + 1e-3
    assert distance.max() > 3


def test_a_rotation_keeps_the_centre_and_the_side() -> None:
    images = torch.zeros(32, 1, 41, 41)
    images[:, :, 20, 5] = 1
    turned, _ = rotate_and_shift(images, NOWHERE.expand(32, 2, 4), 20.0, 0.0, generator(4))
    columns = (turned.sum(dim=(1, 2)) * torch.arange(41)).sum(dim=1) / turned.sum(dim=(1, 2, 3))
    rows = (turned.sum(dim=(1, 3)) * torch.arange(41)).sum(dim=1) / turned.sum(dim=(1, 2, 3))
    assert columns.max() < 8
    torch.testing.assert_close((columns - 20).hypot(rows - 20), torch.full((32,), 15.0), rtol=0, atol=0.3)
    assert (rows - 20).abs().max() > 3


def test_a_shifted_box_keeps_its_size_and_moves_with_its_pixels() -> None:
    images = torch.zeros(16, 1, 40, 40)
    images[:, :, 10:30, 6:16] = 1
    lungs = torch.tensor([[6 / 40, 10 / 40, 10 / 40, 20 / 40], [math.nan] * 4]).expand(16, 2, 4)
    moved, boxes = rotate_and_shift(images, lungs, 0.0, 0.1, generator(5))
    torch.testing.assert_close(boxes[:, 0, 2:], lungs[:, 0, 2:])
    assert boxes[:, 1].isnan().all()
    for axis, dim in ((0, 1), (1, 2)):
        profile = moved[:, 0].sum(dim=dim)
        centre = (profile * (torch.arange(40) + 0.5)).sum(dim=1) / profile.sum(dim=1) / 40
        torch.testing.assert_close(boxes[:, 0, axis] + boxes[:, 0, 2 + axis] / 2, centre, rtol=0, atol=1e-4)


def test_a_turned_box_holds_its_turned_pixels_tightly() -> None:
    images = torch.zeros(16, 1, 200, 200)
    images[:, :, 50:150, 30:80] = 1
    lungs = torch.tensor([[0.15, 0.25, 0.25, 0.5]]).expand(16, 2, 4)
    moved, boxes = rotate_and_shift(images, lungs, 20.0, 0.05, generator(6))
    assert (boxes[:, 0, 2] > 0.27).sum() > 10
    for image, (x, y, width, height) in zip(moved[:, 0], boxes[:, 0].tolist(), strict=True):
        rows, columns = (torch.nonzero(image.amax(dim=axis) > 0.5).flatten() / 200 for axis in (1, 0))
        found = (columns.min(), rows.min(), columns.max() + 1 / 200, rows.max() + 1 / 200)
        assert torch.stack(found).tolist() == pytest.approx([x, y, x + width, y + height], abs=0.015)
