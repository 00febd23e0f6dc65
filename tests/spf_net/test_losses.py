"""The classification loss over known labels."""

import pytest
import torch
from spf_net.losses import masked_bce, positive_weights
from torch.nn import functional

NAN = float("nan")


def test_without_unknown_labels_it_is_bce() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, weights = torch.randn(6, 4, generator=generator), torch.rand(4, generator=generator)
    labels = (torch.rand(6, 4, generator=generator) < 0.5).float()
    expected = functional.binary_cross_entropy_with_logits(logits, labels, pos_weight=weights)
    torch.testing.assert_close(masked_bce(logits, labels, weights), expected)


def test_unknown_labels_change_neither_loss_nor_gradient() -> None:
    logits = torch.tensor([[0.3, -2.0], [1.0, 0.5]], requires_grad=True)
    labels = torch.tensor([[1.0, NAN], [NAN, 0.0]])
    loss = masked_bce(logits, labels)
    known = logits[[0, 1], [0, 1]]
    torch.testing.assert_close(loss, functional.binary_cross_entropy_with_logits(known, torch.tensor([1.0, 0.0])))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient[0, 1] == gradient[1, 0] == 0
    assert gradient[0, 0] != 0


def test_nothing_known_is_zero_with_a_finite_gradient() -> None:
    logits = torch.randn(2, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = masked_bce(logits, torch.full((2, 3), NAN))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss == 0
    assert (gradient == 0).all()


def test_half_precision_is_computed_in_float32() -> None:
    logits = torch.tensor([[3.0, -1.0]], dtype=torch.bfloat16)
    assert masked_bce(logits, torch.tensor([[0.0, 1.0]])).dtype == torch.float32


def test_parts_of_a_batch_average_to_its_loss_however_the_known_labels_are_spread() -> None:
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.ones(6, 4)
    labels[:3, 1:] = NAN
    count = labels.isfinite().sum() / 2
    parts = [masked_bce(logits[rows], labels[rows], count=count) for rows in (slice(3), slice(3, 6))]
    torch.testing.assert_close(torch.stack(parts).mean(), masked_bce(logits, labels))


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"labels must have the shape of logits \(2, 3\), got \(2, 1\)"):
        masked_bce(torch.zeros(2, 3), torch.zeros(2, 1))


def test_positive_weights_count_known_labels() -> None:
    labels = torch.tensor([[1.0, 0.0, NAN], [0.0, 0.0, NAN], [0.0, NAN, 1.0], [NAN, 0.0, 1.0]])
    torch.testing.assert_close(positive_weights(labels), torch.tensor([2.0, 3.0, 0.0]))
