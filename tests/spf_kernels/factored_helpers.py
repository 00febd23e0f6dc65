"""What the tests of factored gradients share."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import spf_kernels
from spf_kernels import FactoredGrad, SPFAutoencoder, counters

from .helpers import assert_within_budget, make_case

# factors of 8 samples are as large as the dense gradient
B, C, D, S, SIDE = 2, 3, 8, 64, 8
BF16, F32, F64 = torch.bfloat16, torch.float32, torch.float64
PREFIX = "factored gradient materialised: "


def make_factors(batch: int = B, dtype: torch.dtype = F32, seed: int = 0) -> tuple[Tensor, Tensor]:
    """left (B, C, D) and right (B, C, S), random."""
    case = make_case((batch, C, D, S), dtype, seed=seed)
    return case.codes, case.maps


def make_gradient(batch: int = B, dtype: torch.dtype = F32, seed: int = 0, rest: bool = False) -> FactoredGrad:
    """A float32 gradient of factors of `dtype`."""
    dense = torch.randn(C, D, S, generator=torch.Generator().manual_seed(seed)) if rest else None
    return FactoredGrad(*make_factors(batch, dtype, seed), F32, dense)


def make_folded(seed: int = 0) -> FactoredGrad:
    """One that an operator has made dense."""
    gradient = make_gradient(seed=seed)
    gradient.abs()
    spf_kernels.reset_counters()
    return gradient


states = pytest.mark.parametrize(
    "make",
    [make_gradient, lambda: make_gradient(rest=True), make_folded, lambda: make_gradient(batch=0)],
    ids=["factors", "rest", "folded", "none"],
)


def materialised() -> int:
    """How often a factored gradient was made dense."""
    return sum(number for event, number in counters().items() if event.startswith(PREFIX))


def as_dense(value: Tensor) -> Tensor:
    """A plain tensor."""
    return value.dense() if isinstance(value, FactoredGrad) else value


def assert_close(actual: Tensor, expected: Tensor) -> None:
    """Equal but for float32 rounding."""
    assert actual.dtype == expected.dtype
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def make_autoencoder(mode: str, **options: Any) -> SPFAutoencoder:
    """The same parameters every time."""
    torch.manual_seed(0)
    return SPFAutoencoder(C, SIDE, D, "tanh", "sigmoid", grad_mode=mode, **options)


def make_maps(batch: int = B, seed: int = 0, dtype: torch.dtype = F32) -> Tensor:
    """Random maps, those of float32 rounded from those of float64."""
    return torch.randn(batch, C, SIDE, SIDE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(
        dtype
    )


def total_loss(autoencoder: SPFAutoencoder, maps: Tensor) -> Tensor:
    """Of the codes and the reconstruction."""
    codes, loss = autoencoder(maps)
    result: Tensor = codes.float().square().mean() + loss
    return result


def compare(run: Callable[[SPFAutoencoder], None]) -> SPFAutoencoder:
    """`run` of a factored, a dense and a dense float64 auto-encoder: parameters and gradients within the budget."""
    modules = [make_autoencoder("factored"), make_autoencoder("dense"), make_autoencoder("dense").double()]
    for module in modules:
        run(module)
    for factored, dense, exact in zip(*(module.parameters() for module in modules), strict=True):
        assert_within_budget(factored.detach(), dense.detach(), exact.detach(), exact.detach().abs())
        if exact.grad is not None:
            assert_within_budget(as_dense(factored.grad), dense.grad, exact.grad, exact.grad.abs())
    return modules[0]


def dtype_of(module: SPFAutoencoder) -> torch.dtype:
    """Of the parameters."""
    return module.encoder.weight.dtype


def backward(module: SPFAutoencoder, *batches: int) -> None:
    """One backward for each batch size."""
    for seed, batch in enumerate(batches):
        total_loss(module, make_maps(batch, seed, dtype_of(module))).backward()
