"""Which heads see where something is, and what they make of a mirrored image."""

import pytest
import torch
from spf_data.labels import Label, LabelSet
from spf_net.heads import HEADS, Head, HeadName
from spf_net.heads.codes import CodeHead
from spf_net.heads.convolution import ConvolutionHead
from torch import Tensor, nn

from spf_kernels import dct_basis

from .examples import BLIND, C, H, W, build, random_maps

LABEL_SET = LabelSet(
    (
        Label("right effusion", "effusion", "right"),
        Label("nodule", "nodule", "none"),
        Label("left effusion", "effusion", "left"),
        Label("opacity in the left upper zone", "opacity", "left", "upper"),
        Label("bilateral effusions", "effusion", "bilateral"),
        Label("opacity in the right upper zone", "opacity", "right", "upper"),
        Label("cardiomegaly", "cardiomegaly", "none"),
    )
)


def logits(head: Head, classifier: nn.Linear, maps: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = classifier(head(maps).features)
    return found


def permuted(maps: Tensor) -> Tensor:
    order = torch.randperm(H * W, generator=torch.Generator().manual_seed(2))
    return maps.flatten(2)[:, :, order].view_as(maps)


@pytest.mark.parametrize("name", BLIND)
def test_pooling_heads_do_not_see_positions(name: HeadName) -> None:
    head, classifier = build(name)
    maps = random_maps()
    before, after = logits(head, classifier, maps), logits(head, classifier, permuted(maps))
    torch.testing.assert_close(before, after, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in HEADS if name not in BLIND])
def test_flattening_heads_see_positions(name: HeadName) -> None:
    head, classifier = build(name)
    maps = random_maps()
    before, after = logits(head, classifier, maps), logits(head, classifier, permuted(maps))
    assert ((before - after).abs() > 1e-3).any(dim=1).all()


def build_exact(name: HeadName) -> tuple[Head, nn.Linear]:
    head, classifier = build(name)
    if name == "dct":
        # Rounded to float32, as it is made, a cosine is not quite its mirror image.
        assert isinstance(head, CodeHead)
        head.encoder.weight.copy_(dct_basis((H, W), 4))
    return head, classifier


def mirrored(name: HeadName) -> tuple[Head, nn.Linear]:
    """The head and classifier of `build_exact(name)` for mirrored images: weights mirrored, labels swapped."""
    head, classifier = build_exact(name)
    order = list(LABEL_SET.mirror)
    with torch.no_grad():
        classifier.weight.copy_(classifier.weight[order])
        classifier.bias.copy_(classifier.bias[order])
        if name == "dct":
            # Mirrored, a cosine is itself or its negative: a matter of the classifier alone.
            assert isinstance(head, CodeHead)
            waves = head.encoder.weight[0]
            signs = (waves * waves.unflatten(1, (H, W)).flip(2).flatten(1)).sum(1)
            classifier.weight.mul_(signs.repeat(C))
        elif isinstance(head, CodeHead):
            head.encoder.weight.copy_(head.encoder.weight.unflatten(2, (H, W)).flip(3).flatten(2))
        elif name not in BLIND:
            rows, columns = {"flatten": (H, W)}.get(name, (2, 2))
            classifier.weight.copy_(classifier.weight.unflatten(1, (C, rows, columns)).flip(3).flatten(1))
        if isinstance(head, ConvolutionHead):
            head.convolution.weight.copy_(head.convolution.weight.flip(3))
    return head, classifier


@pytest.mark.parametrize("name", list(HEADS))
def test_the_mirrored_image_through_mirrored_weights_has_swapped_labels(name: HeadName) -> None:
    maps = random_maps()
    head, classifier = build_exact(name)
    swapped = list(LABEL_SET.mirror)
    assert swapped != sorted(swapped)
    before, before_evidence = logits(head, classifier, maps), head.evidence(maps, classifier.weight)
    head, classifier = mirrored(name)
    after, after_evidence = logits(head, classifier, maps.flip(3)), head.evidence(maps.flip(3), classifier.weight)
    torch.testing.assert_close(after, before[:, swapped], rtol=0, atol=1e-12)
    torch.testing.assert_close(after_evidence.maps, before_evidence.maps[:, swapped].flip(3), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", list(HEADS))
def test_only_flattening_heads_tell_an_image_from_its_mirror_image(name: HeadName) -> None:
    head, classifier = build(name)
    maps = random_maps()
    before, after = logits(head, classifier, maps), logits(head, classifier, maps.flip(3))
    assert torch.allclose(before, after, rtol=0, atol=1e-12) == (name in BLIND)
