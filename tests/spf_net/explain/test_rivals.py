"""Other explanations, against the grad-cam package and by hand."""

from typing import Any

import numpy as np
import pytest
import torch
from pytorch_grad_cam import GradCAM, HiResCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from spf_net.explain import evidence
from spf_net.explain.readout import logits_of_maps
from spf_net.explain.rivals import grad_cam, hirescam, occlusion
from spf_net.heads import HeadName
from spf_net.network import SPFNetwork
from torch import Tensor, nn

from .small import LABELS, images, network, random_maps


class LogitsOnly(nn.Module):
    """What the package expects of a model."""

    def __init__(self, network: SPFNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images).logits
        return logits


def by_the_package(method: Any, explained: SPFNetwork) -> Tensor:
    """Before the package cuts off, scales and resizes: (B, K, H, W)."""
    layer = explained.extractor
    found = []
    for label in range(LABELS):
        targets = [ClassifierOutputTarget(label)] * 2
        with method(LogitsOnly(explained), [layer]) as cam:
            cam(images(), targets)
            arrays = [
                kept[0].detach().numpy()
                for kept in (cam.activations_and_grads.activations, cam.activations_and_grads.gradients)
            ]
            found.append(cam.get_cam_image(images(), layer, targets, *arrays, False))
    return torch.from_numpy(np.stack(found, axis=1))


def at_the_maps(explained: SPFNetwork) -> tuple[Any, Tensor]:
    return logits_of_maps(explained.head, explained.classifier), explained.maps(images()).detach()


@pytest.mark.parametrize("activation", ["relu", None])
def test_evidence_is_the_packages_hirescam(activation: str | None) -> None:
    explained = network(activation=activation)
    expected = by_the_package(HiResCAM, explained)
    assert expected.abs().amax((2, 3)).min() > 1e-4
    torch.testing.assert_close(evidence(explained, images()).maps, expected)


def test_evidence_is_what_a_call_of_the_package_returns() -> None:
    explained = network()
    with HiResCAM(LogitsOnly(explained), [explained.extractor]) as cam:
        # It would interpolate to the size of the images.
        cam.get_target_width_height = lambda _: (8, 8)
        returned = torch.from_numpy(cam(images(), [ClassifierOutputTarget(label) for label in (4, 1)]))
    positive = torch.stack([evidence(explained, images()).maps[row, label] for row, label in ((0, 4), (1, 1))]).relu()
    lowest, highest = positive.amin((1, 2), keepdim=True), positive.amax((1, 2), keepdim=True)
    torch.testing.assert_close(returned.double(), (positive - lowest) / (highest - lowest), rtol=0, atol=1e-4)


def test_tanh_is_not_hirescam() -> None:
    explained = network(activation="tanh")
    distance = evidence(explained, images()).maps - hirescam(*at_the_maps(explained))
    assert distance.abs().max() > 1e-6


@pytest.mark.parametrize("name", ["spf", "average_pooling", "square_pooling", "convolution"])
def test_hirescam_and_grad_cam_are_the_packages(name: HeadName) -> None:
    explained = network(name)
    readout, maps = at_the_maps(explained)
    torch.testing.assert_close(hirescam(readout, maps), by_the_package(HiResCAM, explained))
    torch.testing.assert_close(grad_cam(readout, maps), by_the_package(GradCAM, explained).relu())


@pytest.mark.parametrize("method", [hirescam, grad_cam])
def test_chosen_labels_come_in_their_order(method: Any) -> None:
    readout, maps = at_the_maps(network())
    torch.testing.assert_close(method(readout, maps, [4, 0, 4]), method(readout, maps)[:, [4, 0, 4]])
    assert not method(readout, maps).requires_grad


def test_occlusion_of_a_linear_network_is_what_the_window_adds_to_its_mean() -> None:
    explained = network("flatten")
    readout, maps = logits_of_maps(explained.head, explained.classifier), random_maps()
    shares = explained.head.evidence(maps - maps.mean((2, 3), keepdim=True), explained.classifier.weight).maps
    expected = nn.functional.avg_pool2d(shares, 4) * 16
    found = occlusion(readout, maps, window=4, stride=4)
    torch.testing.assert_close(found, expected.repeat_interleave(4, 2).repeat_interleave(4, 3))
    torch.testing.assert_close(occlusion(readout, maps, window=4, stride=4, batch_size=1), found)


def test_overlapping_windows_are_averaged() -> None:
    inputs = torch.arange(6.0, dtype=torch.float64).view(1, 1, 1, 6).expand(1, 1, 6, 6)

    def logits(images: Tensor) -> Tensor:
        return images[:, :, 0, :2].sum(2)

    # Pixels (0, 0) and (0, 1) are 0 and 1, and 2.5 when painted over: the window's rows and columns 0 to 3 lose -4,
    # and no other window has them.
    found = occlusion(logits, inputs, window=4, stride=2)[0, 0]
    counts = torch.tensor([1, 1, 2, 2, 1, 1], dtype=torch.float64)
    expected = torch.zeros(6, 6, dtype=torch.float64)
    expected[:4, :4] = -4 / (counts[:4, None] * counts[:4])
    torch.testing.assert_close(found, expected)


def test_occlusion_explains_the_pixels_of_the_image_as_well() -> None:
    explained = network()
    whole = occlusion(lambda inputs: explained(inputs).logits, images(), window=8, stride=8)
    covered = images()
    covered[:, :, 8:16, 24:32] = images().mean((2, 3), keepdim=True)
    lost = explained(images()).logits - explained(covered).logits
    torch.testing.assert_close(whole[:, :, 8:16, 24:32], lost.detach()[..., None, None].expand(-1, -1, 8, 8))


@pytest.mark.parametrize(("window", "stride"), [(4, 3), (4, 0), (2, 4), (9, 1)])
def test_windows_that_leave_pixels_out_are_refused(window: int, stride: int) -> None:
    readout, maps = at_the_maps(network())
    with pytest.raises(ValueError, match=rf"window and stride must cover \(8, 8\) evenly.*got window {window}, "):
        occlusion(readout, maps, window, stride)


def test_labels_that_do_not_exist_are_refused() -> None:
    readout, maps = at_the_maps(network())
    with pytest.raises(ValueError, match="labels must be one or more indices from 0 to 6"):
        hirescam(readout, maps, [7])
    with pytest.raises(ValueError, match="labels must be one or more indices from 0 to 6"):
        occlusion(readout, maps, 4, 4, [])
