"""Rotation and shift."""

import torch
from spf_net.augment import rotate_and_shift


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_nothing_to_do_leaves_the_images_alone() -> None:
    images = torch.rand(2, 1, 8, 8, generator=generator())
    assert rotate_and_shift(images, 0.0, 0.0, generator()) is images


def test_the_generator_decides_and_each_image_has_its_own_amounts() -> None:
    images = torch.rand(1, 1, 16, 16, generator=generator()).expand(3, -1, -1, -1)
    first, again, other = (rotate_and_shift(images, 10.0, 0.1, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])


def test_a_bright_spot_moves_by_no_more_than_the_shift() -> None:
    images = torch.zeros(64, 1, 41, 41)
    images[:, :, 20, 20] = 1
    moved = rotate_and_shift(images, 0.0, 0.1, generator(3))
    columns = (moved.sum(dim=(1, 2)) * torch.arange(41)).sum(dim=1) / moved.sum(dim=(1, 2, 3))
    distance = (columns - 20).abs()
    assert distance.max() <= 4.1 + 1e-3
    assert distance.max() > 3


def test_a_rotation_keeps_the_centre_and_the_side() -> None:
    images = torch.zeros(32, 1, 41, 41)
    images[:, :, 20, 5] = 1
    turned = rotate_and_shift(images, 20.0, 0.0, generator(4))
    columns = (turned.sum(dim=(1, 2)) * torch.arange(41)).sum(dim=1) / turned.sum(dim=(1, 2, 3))
    rows = (turned.sum(dim=(1, 3)) * torch.arange(41)).sum(dim=1) / turned.sum(dim=(1, 2, 3))
    assert columns.max() < 8
    torch.testing.assert_close((columns - 20).hypot(rows - 20), torch.full((32,), 15.0), rtol=0, atol=0.3)
    assert (rows - 20).abs().max() > 3
