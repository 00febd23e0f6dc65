"""The pixels of the maps find their place in the image."""

import numpy as np
import pytest
import torch
from spf_net.extractor import ExtractorConfig
from spf_net.heads import HeadConfig
from spf_net.lung_frame import FrameConfig, resample
from spf_net.network import SPFNetwork, build_network
from spf_net.positions import MapPositions, map_positions, spacing, to_image

NAN = float("nan")


def network(frame: FrameConfig | None = None) -> SPFNetwork:
    extractor = ExtractorConfig(widths=(4,), num_maps=3, downsample=8)
    return build_network(extractor, HeadConfig(code_size=2), 1, 64, 2, seed=0, frame=frame).eval()


def test_maps_of_the_whole_image_have_evenly_spaced_centres() -> None:
    first, second = map_positions(network(), torch.zeros(2, 1, 64, 64))
    for centres in (*first, *second):
        np.testing.assert_allclose(centres, (np.arange(8) + 0.5) / 8)


def test_maps_in_the_lung_frame_lie_within_the_lungs() -> None:
    # Together the lungs reach from .2 to .8 along x and from .3 to .7 along y.
    lungs = torch.tensor([[[0.2, 0.3, 0.2, 0.4], [0.6, 0.4, 0.2, 0.3]], [[NAN] * 4] * 2])
    framed, whole = map_positions(network(FrameConfig("lungs", margin=0)), torch.zeros(2, 1, 64, 64), lungs)
    np.testing.assert_allclose(framed.columns, 0.2 + 0.6 * (np.arange(8) + 0.5) / 8, atol=1e-6)
    np.testing.assert_allclose(framed.rows, 0.3 + 0.4 * (np.arange(8) + 0.5) / 8, atol=1e-6)
    np.testing.assert_allclose(whole.rows, (np.arange(8) + 0.5) / 8)


def test_a_frame_beyond_the_image_stops_at_its_border() -> None:
    lungs = torch.tensor([[[-0.5, 0.0, 0.5, 1.0], [0.0, 0.0, 0.5, 1.0]]])
    (positions,) = map_positions(network(FrameConfig("lungs", margin=0)), torch.zeros(1, 1, 64, 64), lungs)
    np.testing.assert_allclose(positions.columns[:4], 0.5 / 8)
    assert (np.diff(positions.columns[4:]) > 0).all()


def test_a_predicted_frame_is_that_of_the_regressor() -> None:
    predicted = network(FrameConfig("predicted", margin=0))
    images = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    assert predicted.lung_regressor is not None
    with torch.no_grad():
        lungs = predicted.lung_regressor(images)
    expected = map_positions(network(FrameConfig("lungs", margin=0)), images, lungs)
    for got, wanted in zip(map_positions(predicted, images), expected, strict=True):
        np.testing.assert_allclose(got.rows, wanted.rows)
        np.testing.assert_allclose(got.columns, wanted.columns)


def test_boxes_are_needed_where_the_network_needs_them() -> None:
    with pytest.raises(ValueError, match="for the frame 'lungs', got None"):
        map_positions(network(FrameConfig("lungs")), torch.zeros(1, 1, 64, 64))


def test_a_framed_map_returns_to_where_it_came_from() -> None:
    spot = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    spot[0, 0, 2, 5] = 1
    lungs = torch.tensor([[[0.2, 0.1, 0.2, 0.8], [0.6, 0.1, 0.3, 0.8]]])
    (positions,) = map_positions(network(FrameConfig("lungs", margin=0)), torch.zeros(1, 1, 64, 64), lungs)
    image = to_image(resample(spot, lungs, 0.0)[0, 0].numpy(), positions, 64)
    row, column = np.unravel_index(image.argmax(), image.shape)
    # Map pixel (2, 5) covers image pixels 16 to 23 and 40 to 47.
    assert abs(row - 19.5) <= 4
    assert abs(column - 43.5) <= 4
    assert image[:6].max() == image[:, :12].max() == image[:, 59:].max() == 0


def test_a_constant_map_is_constant_up_to_the_border() -> None:
    centres = (np.arange(4) + 0.5) / 4
    np.testing.assert_allclose(to_image(np.ones((4, 4)), MapPositions(centres, centres), 32), 1)


def test_shapes_must_agree() -> None:
    centres = (np.arange(4) + 0.5) / 4
    with pytest.raises(ValueError, match=r"pixels must be \(4, 4\), got \(4, 3\)"):
        to_image(np.ones((4, 3)), MapPositions(centres, centres), 32)


def test_spacing() -> None:
    assert spacing(np.array([0.1, 0.1, 0.3])) == pytest.approx(0.2)
    assert spacing(np.array([0.5])) == 1
