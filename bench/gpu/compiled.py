"""The formulas that torch.compile searches the best kernels for."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def codes_of(maps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(B, C, D)."""
    return torch.einsum("bcs,cds->bcd", maps, weight) + bias


def maps_gradient_of(gradient: Tensor, weight: Tensor) -> Tensor:
    """(B, C, S)."""
    return torch.einsum("bcd,cds->bcs", gradient, weight)


def weight_gradient_of(gradient: Tensor, maps: Tensor) -> Tensor:
    """(C, D, S)."""
    return torch.einsum("bcd,bcs->cds", gradient, maps)


def reconstruct_of(codes: Tensor, maps: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Loss (B,), error (B, C, S) and the codes' gradient (B, C, D)."""
    error = torch.einsum("bcd,cds->bcs", codes, weight) + bias - maps
    return error.float().square().sum((1, 2)), error, torch.einsum("bcs,cds->bcd", error, weight)


def loss_of(codes: Tensor, maps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The mean squared error () of the decoded codes (B, C, D) against maps (B, C, S)."""
    return F.mse_loss(torch.einsum("bcd,cds->bcs", codes, weight) + bias, maps)


@cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A formula by `torch.compile`, its kernels searched for.

    Without CUDA graphs: those would copy every weight set into a buffer of their own before each call.
    """
    result: Callable[..., Any] = torch.compile(function, mode="max-autotune-no-cudagraphs", dynamic=False)
    return result
