"""The exact split of the logits over the pixels of the maps."""

from typing import Any

import pytest
import torch
from spf_net.heads import HEADS, HeadName, ProjectedSquarePoolingHead, SquarePoolingHead, base
from spf_net.heads.codes import CodeHead
from torch import Tensor

from .examples import LABELS, C, H, W, build, random_maps

CODES: tuple[HeadName, ...] = ("spf", "shared_autoencoder")
CASES: list[tuple[HeadName, dict[str, Any]]] = [
    *((name, {"activation": activation}) for name in CODES for activation in (None, "relu", "tanh")),
    *((name, {}) for name in HEADS if name not in CODES),
    ("adaptive_flatten", {"grid": 4}),
    ("convolution", {"code_size": 9}),
]
# Those whose logits are piecewise linear in the maps.
LINEAR = [(name, settings) for name, settings in CASES if "square" not in name and settings != {"activation": "tanh"}]


@pytest.mark.parametrize(("name", "settings"), CASES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_pixels_and_bias_add_up_to_the_logit(name: HeadName, settings: dict[str, Any], dtype: torch.dtype) -> None:
    head, classifier = build(name, dtype=dtype, **settings)
    maps = random_maps(dtype=dtype)
    with torch.no_grad():
        features = head(maps).features
        evidence = head.evidence(maps, classifier.weight)
        logits = features @ classifier.weight.T
        scale = evidence.maps.abs().sum((2, 3)) + evidence.bias.abs() + features.abs() @ classifier.weight.abs().T
    assert evidence.maps.shape == (3, LABELS, H, W)
    assert evidence.maps.dtype == evidence.bias.dtype == dtype
    error = (evidence.maps.sum((2, 3)) + evidence.bias - logits).abs()
    assert (error <= 4 * torch.finfo(dtype).eps * scale).all()
    assert evidence.maps.abs().amax((2, 3)).min() > 1e-4


@pytest.mark.parametrize(("name", "settings"), LINEAR)
def test_it_is_hirescam_at_the_maps(name: HeadName, settings: dict[str, Any]) -> None:
    head, classifier = build(name, **settings)
    maps = random_maps().requires_grad_()
    logits = classifier(head(maps).features)
    expected = []
    for label in range(LABELS):
        (gradient,) = torch.autograd.grad(logits[:, label].sum(), maps, retain_graph=True)
        expected.append((gradient * maps).sum(1))
    torch.testing.assert_close(head.evidence(maps, classifier.weight).maps, torch.stack(expected, 1).detach())


def test_square_pooling_gives_a_pixel_its_products_of_maps() -> None:
    head, classifier = build("square_pooling")
    assert isinstance(head, SquarePoolingHead)
    maps = random_maps()
    forms = classifier.weight.detach().view(LABELS, C, C)
    products = torch.einsum("bchw,kcd,bdhw->bkhw", maps, forms, maps) / (H * W)
    moments = torch.einsum("bchw,bdhw->bcd", maps, maps).flatten(1) / (H * W)
    check_normalised(head.evidence(maps, classifier.weight), products, moments, classifier.weight.detach())


def test_projected_square_pooling_gives_a_pixel_its_squares() -> None:
    head, classifier = build("square_pooling_projected")
    assert isinstance(head, ProjectedSquarePoolingHead)
    maps = random_maps()
    squares = torch.einsum("pc,bchw->bphw", head.projection.weight.detach(), maps).square()
    products = torch.einsum("kp,bphw->bkhw", classifier.weight.detach(), squares) / (H * W)
    check_normalised(head.evidence(maps, classifier.weight), products, squares.mean((2, 3)), classifier.weight.detach())


def check_normalised(evidence: base.HeadEvidence, products: Tensor, pooled: Tensor, weight: Tensor) -> None:
    deviation = (pooled.var(1, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(evidence.maps, products / deviation[:, None, None, None])
    torch.testing.assert_close(evidence.bias, -(pooled.mean(1) / deviation)[:, None] * weight.sum(1))


def test_tanh_of_nothing_is_no_evidence() -> None:
    head, classifier = build("spf", activation="tanh")
    assert isinstance(head, CodeHead)
    assert head.encoder.bias is not None
    torch.nn.init.zeros_(head.encoder.bias)
    maps = random_maps()
    maps[1] = 0
    evidence = head.evidence(maps, classifier.weight)
    assert (evidence.maps[1] == 0).all()
    assert torch.isfinite(evidence.maps).all()
    assert (evidence.maps[0] != 0).all()


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_chunks_of_labels_change_nothing(
    name: HeadName, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    head, classifier = build(name, **settings)
    maps = random_maps()
    whole = head.evidence(maps, classifier.weight)
    chunks: list[int] = []
    split = type(head).split

    def recorded(self: base.Head, maps: Tensor) -> base.Split:
        inner = split(self, maps)

        def counted(rows: Tensor) -> base.HeadEvidence:
            chunks.append(len(rows))
            return inner(rows)

        return counted

    monkeypatch.setattr(type(head), "split", recorded)
    for elements, expected in ((0, [1] * 7), (3 * maps.numel(), [3, 3, 1]), (7 * maps.numel(), [7])):
        chunks.clear()
        monkeypatch.setattr(base, "CHUNK_ELEMENTS", elements)
        torch.testing.assert_close(head.evidence(maps, classifier.weight), whole, rtol=0, atol=1e-13)
        assert chunks == expected


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_low_precision_is_split_in_float32(name: HeadName, settings: dict[str, Any]) -> None:
    head, classifier = build(name, dtype=torch.bfloat16, **settings)
    maps = random_maps(dtype=torch.bfloat16)
    evidence = head.evidence(maps, classifier.weight)
    assert evidence.maps.dtype == evidence.bias.dtype == torch.float32
    total = evidence.maps.sum((2, 3)) + evidence.bias
    with torch.no_grad():
        logits = head.double()(maps.double()).features @ classifier.double().weight.T
    torch.testing.assert_close(total.double(), logits, rtol=0, atol=2e-5 * float(logits.abs().max()))


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_layouts_of_maps_and_classifier_do_not_matter(name: HeadName, settings: dict[str, Any]) -> None:
    head, classifier = build(name, **settings)
    maps = random_maps()
    strided = classifier.weight.detach().T.contiguous().T
    torch.testing.assert_close(
        head.evidence(maps.contiguous(memory_format=torch.channels_last), strided),
        head.evidence(maps, classifier.weight),
    )
    assert head.evidence(maps[:0], classifier.weight).maps.shape == (0, LABELS, H, W)


@pytest.mark.parametrize("name", CODES)
def test_sigmoid_codes_are_refused_with_the_reason(name: HeadName) -> None:
    head, classifier = build(name, activation="sigmoid")
    with pytest.raises(ValueError, match=r"must have an activation that is 0 at 0, got 'sigmoid': .* no exact split"):
        head.evidence(random_maps(), classifier.weight)


def test_maps_among_ranks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    head, classifier = build("spf")
    assert isinstance(head, CodeHead)
    monkeypatch.setattr(head.encoder, "shards", object())
    with pytest.raises(ValueError, match="the encoders of all maps, got a head whose maps are sharded"):
        head.evidence(random_maps(), classifier.weight)


@pytest.mark.parametrize("name", list(HEADS))
def test_what_does_not_fit_is_refused(name: HeadName) -> None:
    head, classifier = build(name)
    with pytest.raises(ValueError, match=r"maps must have shape \('batch', 5, 6, 4\), got \(3, 5, 6, 3\)"):
        head.evidence(random_maps()[..., :3], classifier.weight)
    with pytest.raises(ValueError, match=rf"classifier must have shape \(labels, {head.features}\), got"):
        head.evidence(random_maps(), classifier.weight[:, 1:])
    with pytest.raises(TypeError, match=r"maps must be floating point, got torch\.int64"):
        head.evidence(random_maps().long(), classifier.weight)
