"""Hits and chance on maps worked out by hand."""

import numpy as np
import pytest
from spf_data.boxes import box_mask
from spf_data.dataset import XrayDataset
from spf_data.labels import Label, LabelSet
from spf_data.registry import DataConfig, build_dataset
from spf_net.pointing import Hits, finding_truth, pointing_game, pointing_hits, zone_masks
from spf_net.positions import MapPositions

NAN = float("nan")
ZONES = LabelSet(
    (
        Label("right upper opacity", "opacity", "right", "upper"),
        Label("left upper opacity", "opacity", "left", "upper"),
        Label("right lower opacity", "opacity", "right", "lower"),
        Label("left lower opacity", "opacity", "left", "lower"),
        Label("large heart", "large heart", "none"),
    )
)


def grid(pixels: int) -> MapPositions:
    centres = (np.arange(pixels) + 0.5) / pixels
    return MapPositions(centres, centres)


def test_the_maximum_is_looked_up_in_the_image() -> None:
    truths = np.zeros((3, 32, 32), dtype=bool)
    truths[:2, 8:16, 16:24] = True
    maps = np.random.default_rng(0).random((3, 4, 4))
    # Map pixel (1, 2) covers the truth exactly; (2, 2) lies below it.
    maps[0, 1, 2] = maps[1, 2, 2] = 5
    hits = pointing_hits(maps, grid(4), truths, tolerance=0)
    np.testing.assert_array_equal(hits.hit, [1, 0, NAN])
    np.testing.assert_array_equal(hits.chance, [1 / 16, 1 / 16, NAN])


def test_the_tolerance_is_a_distance_in_image_pixels() -> None:
    truths = np.zeros((1, 32, 32), dtype=bool)
    truths[0, 12, 12] = True
    maps = np.zeros((1, 4, 4))
    maps[0, 2, 1] = 1
    # Its centre is pixel (20, 12), eight rows below.
    assert pointing_hits(maps, grid(4), truths, tolerance=7.9).hit[0] == 0
    within = pointing_hits(maps, grid(4), truths, tolerance=8)
    assert within.hit[0] == 1
    assert within.chance[0] == 5 / 16


@pytest.mark.parametrize("seed", range(3))
def test_by_default_every_pixel_of_the_image_is_in_reach_of_a_map_pixel(seed: int) -> None:
    random = np.random.default_rng(seed)
    truths = np.zeros((1, 30, 30), dtype=bool)
    truths[0, random.integers(30), random.integers(30)] = True
    assert pointing_hits(np.zeros((1, 4, 4)), grid(4), truths).chance[0] >= 1 / 16


def test_a_map_without_a_single_maximum_scores_by_chance() -> None:
    truths = np.zeros((1, 32, 32), dtype=bool)
    truths[0, :16] = True
    hits = pointing_hits(np.full((1, 4, 4), 0.3), grid(4), truths, tolerance=0)
    assert hits.hit[0] == hits.chance[0] == 0.5


def test_maps_in_a_frame_are_looked_up_where_they_are() -> None:
    truths = np.zeros((1, 32, 32), dtype=bool)
    truths[0, 20:24, 20:24] = True
    maps = np.zeros((1, 2, 2))
    maps[0, 0, 0] = 1
    corner = MapPositions(np.array([0.66, 0.9]), np.array([0.66, 0.9]))
    assert pointing_hits(maps, corner, truths, tolerance=0).hit[0] == 1
    assert pointing_hits(maps, grid(2), truths, tolerance=0).hit[0] == 0


def test_bad_maps_are_refused() -> None:
    truths = np.ones((1, 8, 8), dtype=bool)
    with pytest.raises(ValueError, match=r"maps must be \(K, 4, 4\), got \(1, 4, 3\)"):
        pointing_hits(np.zeros((1, 4, 3)), grid(4), truths)
    with pytest.raises(ValueError, match=r"truths must be \(2, S, S\), got \(1, 8, 8\)"):
        pointing_hits(np.zeros((2, 4, 4)), grid(4), truths)
    with pytest.raises(ValueError, match="maps must be finite, got 16"):
        pointing_hits(np.full((1, 4, 4), np.nan), grid(4), truths)
    with pytest.raises(ValueError, match="tolerance must not be negative, got -1"):
        pointing_hits(np.zeros((1, 4, 4)), grid(4), truths, tolerance=-1)


def test_the_game_counts_present_labels_with_a_place() -> None:
    hits = [
        Hits(np.array([1.0, 0.0, NAN]), np.array([0.1, 0.2, NAN])),
        Hits(np.array([1.0, 1.0, 1.0]), np.full(3, 0.3)),
    ]
    present = np.array([[True, True, True], [True, False, False]])
    game = pointing_game(hits, present, np.array(["a", "b"]), "masks", resamples=100, seed=0)
    assert game.hit_rate.value == pytest.approx(2 / 3)
    # Resamples hold the first patient alone, the second alone, or both.
    assert (game.hit_rate.low, game.hit_rate.high) == (0.5, 1)
    assert game.chance == pytest.approx(0.2)
    assert (game.cases, game.without_truth, game.images, game.truth) == (3, 1, 2, "masks")


def test_a_game_without_images_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one, got 0"):
        pointing_game([], np.zeros((0, 2), dtype=bool), np.array([]), "masks", 10, 0)


def test_boxes_hold_the_pixels_whose_centre_they_hold() -> None:
    mask = box_mask(np.array([[0.25, 0.5, 0.5, 0.25], [0, 0, 0.1, 0.1], [NAN] * 4]), 8)
    expected = np.zeros((8, 8), dtype=bool)
    expected[4:6, 2:6] = True
    expected[0, 0] = True
    np.testing.assert_array_equal(mask, expected)
    with pytest.raises(ValueError, match=r"boxes must be \(M, 4\), got \(4,\)"):
        box_mask(np.zeros(4), 8)


def test_zones_are_thirds_of_the_lung_of_their_side() -> None:
    lungs = np.array([[0.125, 0.25, 0.25, 0.75], [NAN] * 4])
    masks = zone_masks(lungs, ZONES, 16)
    expected = np.zeros((16, 16), dtype=bool)
    expected[4:8, 2:6] = True
    np.testing.assert_array_equal(masks[0], expected)
    np.testing.assert_array_equal(masks[2], np.roll(expected, 8, axis=0))
    assert not masks[[1, 3, 4]].any()


def stub(label_set: LabelSet, boxes: np.ndarray | None) -> XrayDataset:
    return XrayDataset(
        label_set=label_set,
        images=np.zeros((2, 1, 16, 16), dtype=np.uint8),
        labels=np.ones((2, len(label_set)), dtype=np.float32),
        patients=np.array(["a", "b"]),
        sources=np.array(["one", "one"]),
        report={},
        lung_boxes=boxes,
    )


def test_the_truth_is_masks_else_zones_else_none() -> None:
    phantom = build_dataset(DataConfig(num_images=3, image_size=64))
    truth = finding_truth(phantom)
    assert truth is not None
    assert truth.source == "masks of the findings"
    np.testing.assert_array_equal(truth.masks(1).any(axis=(1, 2)), phantom.labels[1].numpy() == 1)

    boxes = np.full((2, 2, 4), 0.5, dtype=np.float32)
    truth = finding_truth(stub(ZONES, boxes))
    assert truth is not None
    assert truth.source == "thirds of the lung boxes"
    np.testing.assert_array_equal(truth.masks(0), zone_masks(boxes[0], ZONES, 16))
    assert finding_truth(stub(ZONES, None)) is None
    assert finding_truth(stub(LabelSet((Label("large heart", "large heart", "none"),)), boxes)) is None
