"""What the tests of the optimizer share."""

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spf_kernels.factors import FactoredGrad

from .helpers import randn

F32, BF16, F64 = torch.float32, torch.bfloat16, torch.float64
SHAPE = (3, 4, 33)
OPTIONS = {
    "plain": {},
    "keras": {"lr": 2e-6, "eps": 1e-7},
    "weight decay": {"weight_decay": 0.1},
    "decoupled": {"weight_decay": 0.1, "decoupled_weight_decay": True},
    "maximize": {"maximize": True, "weight_decay": 0.01},
    "betas": {"betas": (0.5, 0.9), "momentum_decay": 0.1, "eps": 1e-3},
}
options = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def make_parameter(*shape: int, dtype: torch.dtype = F32, seed: int = 0) -> nn.Parameter:
    """Normal numbers."""
    return nn.Parameter(randn(*shape, dtype=dtype, seed=seed))


def train(optimizer: torch.optim.Optimizer, gradients: Iterable[Any]) -> Tensor:
    """A step for each gradient, of the optimizer's only parameter."""
    (parameter,) = optimizer.param_groups[0]["params"]
    for gradient in gradients:
        parameter.grad = gradient.to(parameter.dtype) if isinstance(gradient, torch.Tensor) else FactoredGrad(*gradient)
        optimizer.step()
    return parameter.detach()


def make_gradients(steps: int, *shape: int, seed: int = 1) -> list[Tensor]:
    """One a step; elements from 1e-4 to 10, their means not zero."""
    scale = torch.logspace(-4, 1, shape[-1])
    return list(scale * randn(steps, *shape, seed=seed) + 0.3 * scale)
