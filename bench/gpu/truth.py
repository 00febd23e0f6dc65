"""The kernels' results in float64, on the maps that `bench.gate` chooses, by the names that all providers use."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from bench.cases import Inputs
from bench.gate import Values, chosen_maps
from bench.optimizers import LEARNING_RATE
from spf_kernels.backends import reference

# results whose first dimension is the map; of all others but the loss it is the second
_BY_MAP_FIRST = ("weight gradient", "updated weight")


def pick(name: str, value: Tensor, num_maps: int) -> Tensor:
    """The chosen maps of a named result.

    Args:
        name: "codes" or "codes gradient" (B, C*D) or (B, C, D); "maps gradient" or "error" (B, C, S);
            "weight gradient" or "updated weight" (C, D, S); "loss" (B,), of all maps.
        value: The result.
        num_maps: C.
    """
    if name == "loss":
        return value
    chosen = chosen_maps(num_maps)
    if name in _BY_MAP_FIRST:
        return value[chosen]
    split: Tensor = value.unflatten(1, (num_maps, -1)) if value.dim() == 2 else value
    return split[:, chosen]


def _maps(inputs: Inputs, chosen: list[int]) -> Tensor:
    return inputs.maps.flatten(2)[:, chosen].double()


def _codes(inputs: Inputs) -> Tensor:
    chosen = chosen_maps(len(inputs.weight))
    weight, bias = inputs.weight[chosen].double(), inputs.bias[chosen].double()
    return reference.encode(_maps(inputs, chosen), weight, bias, "none")


def _codes_gradient_given(inputs: Inputs) -> Tensor:
    return pick("codes", inputs.codes_gradient, len(inputs.weight)).double()


def _maps_gradient(inputs: Inputs) -> Tensor:
    chosen = chosen_maps(len(inputs.weight))
    return reference.decode(_codes_gradient_given(inputs), inputs.weight[chosen].double(), None, "none")


def _weight_gradient(inputs: Inputs) -> Tensor:
    chosen = chosen_maps(len(inputs.weight))
    return reference.outer(_codes_gradient_given(inputs), _maps(inputs, chosen), torch.float64)


def _updated_weight(inputs: Inputs) -> Tensor:
    """After torch.optim.NAdam's first step, in float64."""
    weight = nn.Parameter(inputs.weight[chosen_maps(len(inputs.weight))].double())
    weight.grad = _weight_gradient(inputs)
    torch.optim.NAdam([weight], lr=LEARNING_RATE).step()
    return weight.detach()


def _error(inputs: Inputs) -> Tensor:
    chosen = chosen_maps(len(inputs.decoder_weight))
    weight, bias = inputs.decoder_weight[chosen].double(), inputs.decoder_bias[chosen].double()
    codes = pick("codes", inputs.codes, len(inputs.decoder_weight)).double()
    return reference.decode(codes, weight, bias, "none") - _maps(inputs, chosen)


def _codes_gradient(inputs: Inputs) -> Tensor:
    chosen = chosen_maps(len(inputs.decoder_weight))
    return reference.encode(_error(inputs), inputs.decoder_weight[chosen].double(), None, "none")


def _loss(inputs: Inputs) -> Tensor:
    """Of all maps, one after the other: float64 copies of all weights need not fit."""
    codes = inputs.codes.unflatten(1, (len(inputs.decoder_weight), -1))
    total = torch.zeros(len(codes), dtype=torch.float64, device=codes.device)
    for c, (weight, bias) in enumerate(zip(inputs.decoder_weight, inputs.decoder_bias, strict=True)):
        decoded = codes[:, c].double() @ weight.double() + bias.double()
        total += (decoded - inputs.maps[:, c].flatten(1)).square().sum(1)
    return total


_EXACT: dict[str, Callable[[Inputs], Tensor]] = {
    "codes": _codes,
    "maps gradient": _maps_gradient,
    "weight gradient": _weight_gradient,
    "updated weight": _updated_weight,
    "error": _error,
    "codes gradient": _codes_gradient,
    "loss": _loss,
}


def exact(inputs: Inputs, names: Iterable[str]) -> Values:
    """The named results; "codes gradient" is the decoder's, unscaled, as `reconstruct` gives it."""
    return {name: _EXACT[name](inputs) for name in names}
