"""The evidence of a whole network."""

import pytest
import torch
from spf_net.explain import evidence
from spf_net.heads import HEADS, HeadName
from spf_net.heads.codes import CodeHead
from spf_net.lung_frame import FrameConfig

from spf_kernels import SPFAutoencoder

from .small import LABELS, images, network


@pytest.mark.parametrize("name", list(HEADS))
def test_maps_and_bias_add_up_to_the_networks_logits(name: HeadName) -> None:
    explained = network(name)
    found = evidence(explained, images())
    assert found.maps.shape == (2, LABELS, 8, 8)
    assert not found.maps.requires_grad
    assert torch.equal(found.logits, explained(images()).logits)
    torch.testing.assert_close(found.maps.sum((2, 3)) + found.bias, found.logits, rtol=0, atol=1e-12)


def test_chosen_labels_come_in_their_order() -> None:
    whole, chosen = evidence(network(), images()), evidence(network(), images(), [4, 0, 4])
    for every, some in zip(whole, chosen, strict=True):
        torch.testing.assert_close(some, every[:, [4, 0, 4]])


def test_no_decoder_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    explained = network()
    assert isinstance(explained.head, CodeHead)
    assert isinstance(explained.head.flatten, SPFAutoencoder)
    expected = evidence(explained, images())

    def decode(*_: object) -> None:
        raise AssertionError("a decoder ran")

    monkeypatch.setattr(explained.head.flatten, "_loss", decode)
    with pytest.raises(AssertionError, match="a decoder ran"):
        explained(images())
    assert torch.equal(evidence(explained, images()).maps, expected.maps)


def test_it_is_of_the_maps_in_the_lung_frame() -> None:
    explained = network(frame=FrameConfig(source="lungs"))
    lungs = torch.tensor([[[0.1, 0.2, 0.3, 0.5], [0.6, 0.2, 0.3, 0.5]]] * 2, dtype=torch.float64)
    found = evidence(explained, images(), [1], lungs)
    expected = explained.head.evidence(explained.maps(images(), lungs), explained.classifier.weight[[1]])
    torch.testing.assert_close(found.maps, expected.maps)
    assert torch.equal(found.logits, explained(images(), lungs).logits[:, [1]])


def test_autocast_does_not_blur_it() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        found = evidence(network().float(), images().float())
    torch.testing.assert_close(found.maps.sum((2, 3)) + found.bias, found.logits, rtol=0, atol=1e-6)


def test_what_can_not_be_explained_is_refused() -> None:
    with pytest.raises(ValueError, match="network must be in eval mode, got training mode"):
        evidence(network().train(), images())
    with pytest.raises(ValueError, match="got 'sigmoid'"):
        evidence(network(activation="sigmoid"), images())


@pytest.mark.parametrize("labels", [[], [7], [0, -1]])
def test_labels_that_do_not_exist_are_refused(labels: list[int]) -> None:
    with pytest.raises(ValueError, match="labels must be one or more indices from 0 to 6, got"):
        evidence(network(), images(), labels)
