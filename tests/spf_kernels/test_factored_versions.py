"""Factors know whether they were changed in place, also after operators have handled the gradient."""

import pytest
import torch

from spf_kernels import SPFFlatten

from .factored_helpers import SIDE, C, D, make_maps


def gradient_of(maps):
    layer = SPFFlatten(C, SIDE, D, grad_mode="factored")
    layer(maps).square().sum().backward()
    return layer.weight.grad


@pytest.mark.parametrize(("change", "factor"), [(lambda gradient: gradient.mul_(2), 2), (torch.Tensor.neg_, -1)])
def test_maps_that_were_changed_before_the_forward(change, factor):
    maps = make_maps()
    maps.relu_()
    gradient = gradient_of(maps)
    before = gradient.dense()
    change(gradient)
    assert gradient.dense().equal(before * factor)


def test_maps_that_are_changed_after_an_operator():
    maps = make_maps()
    gradient = gradient_of(maps)
    gradient.mul_(2)
    maps.zero_()
    with pytest.raises(RuntimeError, match="the tensor behind the factor right"):
        gradient.dense()
