"""What the checks of the evidence say where the answer is known."""

import pytest
import torch
from scipy.stats import spearmanr
from spf_net.explain.checks import (
    area_under,
    bias_share,
    cancellation,
    deletion_curve,
    random_deletion_curve,
    randomised_correlation,
    rank_correlation,
)
from spf_net.explain.readout import logits_of_maps
from spf_net.heads import HeadName
from torch import Tensor

from .small import LABELS, network, random_maps

# One label an image.
CHOSEN = torch.tensor([5, 2])


def linear_case(name: HeadName = "spf") -> tuple[Tensor, Tensor, Tensor]:
    """Curve one pixel at a time, evidence (B, H*W) and logits (B,) of the chosen labels of a linear network."""
    explained = network(name, activation=None)
    maps, rows = random_maps(), torch.arange(2)
    logits_of = logits_of_maps(explained.head, explained.classifier)
    scores = explained.head.evidence(maps, explained.classifier.weight).maps[rows, CHOSEN]
    curve = deletion_curve(logits_of, maps, scores, CHOSEN)
    return curve, scores.flatten(1), logits_of(maps).detach()[rows, CHOSEN]


def test_bias_share_and_cancellation_by_hand() -> None:
    maps = torch.tensor([[[[3.0, -1.0]], [[2.0, 0.0]], [[0.0, 0.0]], [[1.0, -1.0]]]])
    bias = torch.tensor([[-4.0, 0.0, 5.0, 0.0]])
    assert bias_share(maps, bias).tolist() == [[0.5, 0.0, 1.0, 0.0]]
    shares = cancellation(maps)
    assert shares[0, :2].tolist() == [2.0, 1.0]
    assert torch.isnan(shares[0, 2])
    assert torch.isinf(shares[0, 3])
    assert torch.isnan(bias_share(maps[:, 2:3], torch.zeros(1, 1))).all()


def test_bias_share_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match=r"maps and bias must be \(B, K, H, W\) and \(B, K\), got"):
        bias_share(torch.zeros(2, 3, 4, 4), torch.zeros(2, 4))


@pytest.mark.parametrize("name", ["spf", "shared_autoencoder", "flatten", "average_pooling", "dct"])
def test_the_deletion_curve_of_a_linear_head_is_the_running_sum_of_its_evidence(name: HeadName) -> None:
    curve, scores, logits = linear_case(name)
    removed = scores.sort(dim=1, descending=True).values.cumsum(1)
    torch.testing.assert_close(curve[:, 0], logits, rtol=0, atol=1e-12)
    torch.testing.assert_close(curve[:, 1:], logits[:, None] - removed, rtol=0, atol=1e-12)


def test_portions_are_points_of_the_whole_curve() -> None:
    explained, maps = network(), random_maps()
    logits_of = logits_of_maps(explained.head, explained.classifier)
    scores = explained.head.evidence(maps, explained.classifier.weight).maps[torch.arange(2), CHOSEN]
    whole = deletion_curve(logits_of, maps, scores, CHOSEN)
    parts = deletion_curve(logits_of, maps, scores, CHOSEN, steps=5)
    torch.testing.assert_close(parts, whole[:, [0, 13, 26, 38, 51, 64]])
    empty = logits_of(torch.zeros_like(maps)).detach()[torch.arange(2), CHOSEN]
    torch.testing.assert_close(parts[:, -1], empty)


def test_no_order_of_a_linear_heads_pixels_falls_faster_than_evidence() -> None:
    explained, maps = network("flatten"), random_maps()
    curve, _, _ = linear_case("flatten")
    at_random = random_deletion_curve(logits_of_maps(explained.head, explained.classifier), maps, CHOSEN, draws=4)
    assert (curve <= at_random + 1e-12).all()
    torch.testing.assert_close(curve[:, [0, -1]], at_random[:, [0, -1]])
    assert (area_under(curve) < area_under(at_random) - 0.1).all()


def test_random_orders_of_a_linear_head_fall_about_straight() -> None:
    explained, maps = network("flatten"), random_maps()
    logits_of = logits_of_maps(explained.head, explained.classifier)
    curve = random_deletion_curve(logits_of, maps, CHOSEN, steps=4, draws=400)
    ends = curve[:, [0, -1]]
    straight = ends[:, :1] + (ends[:, 1:] - ends[:, :1]) * torch.linspace(0, 1, 5, dtype=torch.float64)
    torch.testing.assert_close(curve, straight, rtol=0, atol=0.05)
    again = random_deletion_curve(logits_of, maps, CHOSEN, steps=4, draws=400)
    assert torch.equal(curve, again)
    assert not torch.equal(curve, random_deletion_curve(logits_of, maps, CHOSEN, steps=4, draws=400, seed=1))


def test_area_under_is_the_mean_height() -> None:
    assert area_under(torch.tensor([[4.0, 2.0, 0.0], [1.0, 1.0, 1.0], [2.0, 0.0, 0.0]])).tolist() == [2.0, 1.0, 0.5]


def test_deletion_refuses_what_does_not_fit() -> None:
    explained, maps = network(), random_maps()
    logits_of = logits_of_maps(explained.head, explained.classifier)
    with pytest.raises(ValueError, match=r"scores and labels must be \(B, H, W\) and \(B,\) for maps"):
        deletion_curve(logits_of, maps, torch.zeros(2, 8, 7), CHOSEN)
    with pytest.raises(ValueError, match="steps must be from 1 to 64, the pixels of the maps, got 65"):
        deletion_curve(logits_of, maps, torch.zeros(2, 8, 8), CHOSEN, steps=65)
    with pytest.raises(ValueError, match="draws must be positive, got 0"):
        random_deletion_curve(logits_of, maps, CHOSEN, draws=0)


def test_rank_correlation_is_scipys() -> None:
    generator = torch.Generator().manual_seed(0)
    # Few values, so that there are ties.
    first, second = (torch.randint(0, 5, (2, 3, 4, 4), generator=generator).float() for _ in range(2))
    found = rank_correlation(first, second)
    for image in range(2):
        for label in range(3):
            expected = spearmanr(first[image, label].flatten(), second[image, label].flatten()).statistic
            assert found[image, label].item() == pytest.approx(expected)
    assert torch.isnan(rank_correlation(torch.zeros(1, 1, 2, 2), first[:1, :1, :2, :2])).all()
    with pytest.raises(ValueError, match="first and second must have one shape"):
        rank_correlation(first, second[:1])


def test_other_weights_give_other_evidence() -> None:
    explained, maps = network(code_size=16), random_maps(batch=20)
    signed, absolute = randomised_correlation(explained.head, explained.classifier, maps)
    assert signed.shape == absolute.shape == (20, LABELS)
    # Of 140 maps of 64 pixels: a standard error of about 0.01.
    assert abs(signed.mean().item()) < 0.05


def test_the_same_weights_give_the_same_evidence_and_stay() -> None:
    explained = network(seed=7)
    before = {key: value.clone() for key, value in explained.state_dict().items()}
    state = torch.random.get_rng_state()
    found = randomised_correlation(explained.head, explained.classifier, random_maps(), [3, 1], seed=5)
    assert found.signed.shape == (2, 2)
    assert all(torch.equal(before[key], value) for key, value in explained.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())
    again = randomised_correlation(explained.head, explained.classifier, random_maps(), [3, 1], seed=5)
    assert torch.equal(found.signed, again.signed)


def test_bright_pixels_stay_bright_whatever_the_weights() -> None:
    explained, maps = network(code_size=16), random_maps(batch=8)
    maps[:, :, :4] *= 10
    signed, absolute = randomised_correlation(explained.head, explained.classifier, maps)
    assert absolute.mean() > 0.4
    assert abs(signed.mean().item()) < 0.1
