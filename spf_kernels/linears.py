"""The layers of a loop, one `nn.Linear` a map, to and from one weight (C, D, S)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def check_linears(name: str, linears: Sequence[nn.Linear]) -> nn.Linear:
    """The first of `linears`, which must all be alike.

    Raises:
        ValueError: No layers, or layers that differ.
        TypeError: Something that is not an nn.Linear.
    """
    if not linears:
        raise ValueError(f"{name} must hold at least one nn.Linear, got none")
    first = linears[0]
    for index, linear in enumerate(linears):
        if not isinstance(linear, nn.Linear):
            raise TypeError(f"{name}[{index}] must be an nn.Linear, got {type(linear).__name__}")
        alike = linear.weight.shape == first.weight.shape and (linear.bias is None) == (first.bias is None)
        alike = alike and linear.weight.dtype == first.weight.dtype and linear.weight.device == first.weight.device
        if not alike:
            raise ValueError(
                f"{name}[{index}] must be like {name}[0] ({first}, {first.weight.dtype}, "
                f"{first.weight.device}), got {linear}, {linear.weight.dtype}, {linear.weight.device}"
            )
    return first


@torch.no_grad()
def load_linears(weight: Tensor, bias: Tensor | None, linears: Sequence[nn.Linear], transpose: bool) -> None:
    """Copies the layers' parameters.

    Args:
        weight: (C, D, S), overwritten.
        bias: (C, outputs) or None, overwritten.
        linears: One a map.
        transpose: Whether the layers are decoders, with weights (S, D).
    """
    for index, linear in enumerate(linears):
        weight[index].copy_(linear.weight.T if transpose else linear.weight)
        if bias is not None:
            bias[index].copy_(linear.bias)


@torch.no_grad()
def make_linears(weight: Tensor, bias: Tensor | None, transpose: bool) -> list[nn.Linear]:
    """New layers with copies of the parameters; see `load_linears`."""
    linears = []
    for index, of_map in enumerate(weight):
        of_map = of_map.T if transpose else of_map
        linear = nn.Linear(of_map.shape[1], of_map.shape[0], bias is not None, device=of_map.device, dtype=of_map.dtype)
        linear.weight.copy_(of_map)
        if bias is not None:
            linear.bias.copy_(bias[index])
        linears.append(linear)
    return linears
