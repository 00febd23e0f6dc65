"""The lung frame: exact where the numbers are whole, and the same as grid_sample elsewhere."""

import math

import pytest
import torch
from spf_net.lung_frame import FrameConfig, count_without_frame, is_known, resample
from torch.nn import functional

NAN = math.nan


def random_maps(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def boxes(*right_and_left: tuple[float, float, float, float]) -> torch.Tensor:
    return torch.tensor(right_and_left, dtype=torch.float64).view(-1, 2, 4)


def random_boxes(batch: int, seed: int = 1) -> torch.Tensor:
    drawn = torch.rand(batch, 2, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn * 0.4 + 0.1


def test_the_box_of_the_whole_image_changes_nothing() -> None:
    maps = random_maps(2, 3, 16, 24)
    whole = boxes((0, 0, 0.5, 1), (0.5, 0, 0.5, 1)).expand(2, 2, 4)
    assert torch.equal(resample(maps, whole, 0.0), maps)
    assert torch.equal(resample(maps.float(), whole, 0.0), maps.float())


def test_a_box_of_whole_pixels_is_a_crop() -> None:
    maps = random_maps(1, 2, 9, 12)
    # A third of each axis, so that every third new pixel lies on an old one: rows 3 to 5, columns 6 to 9.
    framed = resample(maps, boxes((1 / 2, 1 / 3, 1 / 6, 1 / 3), (2 / 3, 1 / 3, 1 / 6, 1 / 3)), 0.0)
    torch.testing.assert_close(framed[..., 1::3, 1::3], maps[..., 3:6, 6:10], rtol=0, atol=1e-12)
    between = (2 * maps[0, 0, 4, 7] + maps[0, 0, 4, 8]) / 3
    torch.testing.assert_close(framed[0, 0, 4, 5], between, rtol=0, atol=1e-12)


def test_a_frame_that_leaves_the_image_repeats_its_border() -> None:
    maps = random_maps(1, 1, 4, 4)
    moved = resample(maps, boxes((0.5, 0, 0.5, 1), (1.0, 0, 0.5, 1)), 0.0)
    assert torch.equal(moved[..., :2], maps[..., 2:])
    assert torch.equal(moved[..., 2:], maps[..., 3:].expand(-1, -1, -1, 2))


def test_shifting_image_and_box_together_changes_nothing() -> None:
    maps, lungs = torch.zeros(4, 2, 32, 32, dtype=torch.float64), random_boxes(4) * 0.5 + 0.2
    maps[:, :, 6:26, 6:26] = random_maps(4, 2, 20, 20)
    shifted = maps.roll((-3, 4), dims=(2, 3))
    moved = lungs + torch.tensor([4 / 32, -3 / 32, 0, 0], dtype=torch.float64)
    torch.testing.assert_close(resample(shifted, moved, 0.1), resample(maps, lungs, 0.1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("margin", [0.0, 0.2])
def test_it_is_what_grid_sample_does(margin: float) -> None:
    maps, lungs = random_maps(3, 2, 12, 20), random_boxes(3)
    lower, upper = lungs[..., :2].amin(1), (lungs[..., :2] + lungs[..., 2:]).amax(1)
    centre, size = lower + upper - 1, (upper - lower) * (1 + 2 * margin)
    matrix = torch.cat([torch.diag_embed(size), centre[:, :, None]], dim=2)
    grid = functional.affine_grid(matrix, [3, 2, 12, 20], align_corners=False)
    expected = functional.grid_sample(maps, grid, padding_mode="border", align_corners=False)
    torch.testing.assert_close(resample(maps, lungs, margin), expected, rtol=0, atol=1e-12)


def test_a_mirrored_image_has_the_mirrored_frame() -> None:
    maps, lungs = random_maps(3, 2, 16, 16), random_boxes(3)
    x, y, width, height = lungs.flip(1).unbind(2)
    mirrored = torch.stack([1 - x - width, y, width, height], dim=2)
    torch.testing.assert_close(
        resample(maps.flip(3), mirrored, 0.05), resample(maps, lungs, 0.05).flip(3), rtol=0, atol=1e-12
    )


def test_where_a_lung_is_unknown_the_whole_image_is_the_frame_and_is_counted() -> None:
    maps, lungs = random_maps(4, 2, 8, 8), random_boxes(4)
    lungs[0] = NAN
    lungs[2, 1] = NAN
    framed = resample(maps, lungs, 0.3)
    assert torch.equal(framed[[0, 2]], maps[[0, 2]])
    assert not torch.allclose(framed[[1, 3]], maps[[1, 3]])
    assert is_known(lungs).tolist() == [False, True, False, True]
    assert count_without_frame(lungs) == 2


def test_it_is_differentiable_in_the_maps() -> None:
    maps, lungs = random_maps(2, 2, 5, 6).requires_grad_(), random_boxes(2)
    lungs[1] = NAN
    assert torch.autograd.gradcheck(lambda maps: resample(maps, lungs, 0.1), maps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_small_dtypes_keep_their_dtype_and_lose_no_position(dtype: torch.dtype) -> None:
    maps, lungs = random_maps(2, 3, 64, 64), random_boxes(2)
    framed = resample(maps.to(dtype), lungs.float(), 0.05)
    assert framed.dtype == dtype
    assert framed.is_contiguous()
    atol = {torch.float32: 1e-4, torch.bfloat16: 2e-2}[dtype]
    torch.testing.assert_close(framed.double(), resample(maps, lungs, 0.05), rtol=0, atol=atol)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"maps must be \(B, C, H, W\), got \(2, 8, 8\)"):
        resample(random_maps(2, 8, 8), random_boxes(2), 0.0)
    with pytest.raises(ValueError, match=r"lungs must be \(2, 2, 4\), got \(3, 2, 4\)"):
        resample(random_maps(2, 1, 8, 8), random_boxes(3), 0.0)


@pytest.mark.parametrize("margin", [-0.1, NAN, math.inf])
def test_a_bad_margin_is_refused(margin: float) -> None:
    with pytest.raises(ValueError, match="margin must be finite and not negative"):
        FrameConfig(margin=margin)
