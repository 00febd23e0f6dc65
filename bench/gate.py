"""No speed-up on a red gate: before anything is timed, every provider is compared with float64."""

from collections.abc import Sequence

import torch
from torch import Tensor

from bench.cases import Inputs
from bench.peers import Layer, Read

# relative error in the 2-norm; a wrong operand, layout or scale is off by far more
LARGEST_ERROR = {torch.float32: 1e-5, torch.bfloat16: 1.5e-2}
_MAPS_CHECKED = 8

Values = dict[str, Tensor]


def chosen_maps(num_maps: int) -> list[int]:
    """Up to eight maps, evenly spread from the first to the last."""
    count = min(num_maps, _MAPS_CHECKED)
    return [round(i * (num_maps - 1) / max(count - 1, 1)) for i in range(count)]


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.double().requires_grad_()


def by_map(codes: Tensor, num_maps: int) -> Tensor:
    """(B, C*D) -> (B, chosen maps, D)."""
    split: Tensor = codes.unflatten(1, (num_maps, -1))
    return split[:, chosen_maps(num_maps)]


def parameter_gradients(module: Layer, num_maps: int) -> Values:
    """A provider's gradients of weight (chosen maps, D, S) and bias."""
    gradients = [module.gradient(index) for index in chosen_maps(num_maps)]
    weights, biases = zip(*gradients, strict=True)
    return {"weight gradient": torch.stack(weights), "bias gradient": torch.stack(biases)}


def _gradient(tensor: Tensor) -> Tensor:
    if tensor.grad is None:
        raise RuntimeError("no gradient reached the tensor")
    return tensor.grad


def exact_encoder(inputs: Inputs) -> Values:
    """Codes and gradients of the encoder in float64, for the chosen maps."""
    C = len(inputs.weight)
    chosen = chosen_maps(C)
    maps, weight, bias = (
        _leaf(t) for t in (inputs.maps.flatten(2)[:, chosen], inputs.weight[chosen], inputs.bias[chosen])
    )
    codes = torch.einsum("bcs,cds->bcd", maps, weight) + bias
    codes.backward(by_map(inputs.codes_gradient, C).double())
    return {
        "codes": codes.detach(),
        "maps gradient": _gradient(maps),
        "weight gradient": _gradient(weight),
        "bias gradient": _gradient(bias),
    }


def _exact_loss(inputs: Inputs) -> Tensor:
    """The decoder's mean squared error over all maps, map by map in float64."""
    layers = zip(inputs.decoder_weight, inputs.decoder_bias, strict=True)
    codes = inputs.codes.unflatten(1, (len(inputs.decoder_weight), -1)).unbind(1)
    total = torch.zeros((), dtype=torch.float64)
    for (weight, bias), z, target in zip(layers, codes, inputs.maps.flatten(2).unbind(1), strict=True):
        total += (z.double() @ weight.double() + bias - target).square().sum()
    return total / inputs.maps.numel()


def exact_decoder(inputs: Inputs) -> Values:
    """The decoder's mean squared error in float64, its gradients for the chosen maps."""
    C = len(inputs.decoder_weight)
    chosen = chosen_maps(C)
    codes, weight, bias = (
        _leaf(t) for t in (by_map(inputs.codes, C), inputs.decoder_weight[chosen], inputs.decoder_bias[chosen])
    )
    decoded = torch.einsum("bcd,cds->bcs", codes, weight) + bias
    target = inputs.maps.flatten(2)[:, chosen].double()
    ((decoded - target).square().sum() / inputs.maps.numel()).backward()
    return {
        "loss": _exact_loss(inputs),
        "codes gradient": _gradient(codes),
        "weight gradient": _gradient(weight),
        "bias gradient": _gradient(bias),
    }


def exact_autoencoder(inputs: Inputs) -> Values:
    """Codes and gradients of the whole step in float64: the classifier's gradient at the codes plus the loss."""
    C = len(inputs.weight)
    chosen = chosen_maps(C)
    maps = _leaf(inputs.maps.flatten(2)[:, chosen])
    weight, bias, decoder_weight, decoder_bias = (
        _leaf(t[chosen]) for t in (inputs.weight, inputs.bias, inputs.decoder_weight, inputs.decoder_bias)
    )
    codes = torch.einsum("bcs,cds->bcd", maps, weight) + bias
    decoded = torch.einsum("bcd,cds->bcs", codes, decoder_weight) + decoder_bias
    loss = (decoded - maps.detach()).square().sum() / inputs.maps.numel()
    torch.autograd.backward((codes, loss), (by_map(inputs.codes_gradient, C).double(), None))
    return {
        "codes": codes.detach(),
        "maps gradient": _gradient(maps),
        "encoder weight gradient": _gradient(weight),
        "decoder weight gradient": _gradient(decoder_weight),
    }


def _nadam(parameters: Sequence[Tensor], learning_rate: float) -> torch.optim.Optimizer:
    return torch.optim.NAdam(parameters, lr=learning_rate)


def _optimized(prefix: str, weight: Tensor, optimizer: torch.optim.Optimizer) -> Values:
    state = optimizer.state[weight]
    return {
        f"{prefix}weight": weight.detach(),
        f"{prefix}momentum": state["exp_avg"],
        f"{prefix}variance": state["exp_avg_sq"],
    }


def exact_training(inputs: Inputs, learning_rate: float, steps: int) -> Values:
    """Both weights, their momentum and variance after some steps of NAdam in float64, for the chosen maps."""
    C = len(inputs.weight)
    chosen = chosen_maps(C)
    maps = inputs.maps.flatten(2)[:, chosen].double()
    weight, bias, decoder_weight, decoder_bias = parameters = [
        _leaf(t[chosen]) for t in (inputs.weight, inputs.bias, inputs.decoder_weight, inputs.decoder_bias)
    ]
    optimizer = _nadam(parameters, learning_rate)
    for _ in range(steps):
        optimizer.zero_grad()
        codes = torch.einsum("bcs,cds->bcd", maps, weight) + bias
        decoded = torch.einsum("bcd,cds->bcs", codes, decoder_weight) + decoder_bias
        loss = (decoded - maps).square().sum() / inputs.maps.numel()
        torch.autograd.backward((codes, loss), (by_map(inputs.codes_gradient, C).double(), None))
        optimizer.step()
    return _optimized("encoder ", weight, optimizer) | _optimized("decoder ", decoder_weight, optimizer)


def exact_update(weight: Tensor, left: Tensor, right: Tensor, learning_rate: float, steps: int) -> Values:
    """Weight (C, D, S), momentum and variance after some steps in float64 with one gradient, for the chosen maps.

    Args:
        weight: (C, D, S).
        left: (B, C, D), with `right` the gradient's factors.
        right: (B, C, S).
        learning_rate: NAdam's.
        steps: How many.
    """
    chosen = chosen_maps(len(weight))
    exact = _leaf(weight[chosen])
    exact.grad = torch.einsum("bcd,bcs->cds", left[:, chosen].double(), right[:, chosen].double())
    optimizer = _nadam([exact], learning_rate)
    for _ in range(steps):
        optimizer.step()
    return _optimized("", exact, optimizer)


def optimized(prefix: str, module: Layer, optimizer: torch.optim.Optimizer, num_maps: int) -> Values:
    """A provider's weight, momentum and variance for the chosen maps, named as `exact_training` names them."""

    def stacked(read: Read) -> Tensor:
        return torch.stack([module.weight_of(index, read) for index in chosen_maps(num_maps)])

    return {
        f"{prefix}weight": stacked(torch.Tensor.detach),
        f"{prefix}momentum": stacked(lambda parameter: optimizer.state[parameter]["exp_avg"]),
        f"{prefix}variance": stacked(lambda parameter: optimizer.state[parameter]["exp_avg_sq"]),
    }


def errors(found: Values, exact: Values) -> dict[str, float]:
    """The relative error of each value in the 2-norm. Raises for a value of another shape."""
    for name, value in found.items():
        if value.shape != exact[name].shape:
            raise AssertionError(f"{name} must have shape {tuple(exact[name].shape)}, got {tuple(value.shape)}")
    return {
        name: float((value.double() - exact[name]).norm() / exact[name].norm().clamp_min(1e-300))
        for name, value in found.items()
    }


def check(by_provider: dict[str, dict[str, float]], dtype: torch.dtype) -> None:
    """Raises for a provider whose error says that it computes something else."""
    limit = LARGEST_ERROR[dtype]
    for provider, found in by_provider.items():
        for name, error in found.items():
            if not error <= limit:
                raise AssertionError(f"{provider}: {name} must be within {limit} of float64, got {error:.2e}")


def check_optimized(by_provider: dict[str, dict[str, float]], with_bf16_state: str) -> None:
    """`check` in float32; of one provider momentum and variance are bfloat16."""
    for provider, found in by_provider.items():
        state = {name for name in found if provider == with_bf16_state and not name.endswith("weight")}
        check({provider: {name: error for name, error in found.items() if name in state}}, torch.bfloat16)
        check({provider: {name: error for name, error in found.items() if name not in state}}, torch.float32)
