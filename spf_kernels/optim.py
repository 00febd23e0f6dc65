"""NAdam in one pass over weight, momentum and variance, from gradients or from the factors of gradients."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# torch.compiler.disable would import the compiler, and Triton, as soon as this module is
from torch._compile import _disable_dynamo
from torch.optim.optimizer import ParamsT

from spf_kernels import ops
from spf_kernels.backends import native
from spf_kernels.factors import FactoredGrad

_STATE_DTYPES = (None, torch.float32, torch.bfloat16)
_MASK = (1 << 32) - 1


class NAdam(torch.optim.NAdam):
    """`torch.optim.NAdam` in one pass, also from factored gradients.

    The same arguments, parameter groups and state, so each loads the other's `state_dict`. A step reads and writes
    parameter, momentum (`exp_avg`) and variance (`exp_avg_sq`) once, where torch makes more than twenty passes. A
    `FactoredGrad` goes into the step as its factors: the gradient is never written. Memory in bytes a float32
    parameter: 4, and 8 for momentum and variance, and 4 for a gradient that is not factored.

    With `state_dtype=torch.bfloat16` momentum and variance take 4 bytes instead of 8. Rounded to nearest they would
    stand still: a change of a thousandth is less than half a step of bfloat16. They are rounded up or down at random,
    in proportion to the distances, which is right on average. The random bits are a hash of seed, position of the
    parameter in the groups, step and element: a run is reproducible, whatever the threads, and one that is resumed with
    the same seed goes on bit by bit. Momentum and variance of bfloat16 parameters are rounded so too.

    Args:
        params: Parameters, named parameters or groups, as torch takes them. Any floating-point or complex dtype.
        lr: Learning rate, a number or a tensor of one element.
        betas: What momentum and variance keep of themselves in a step.
        eps: Added to the root of the variance.
        weight_decay: L2 penalty.
        momentum_decay: How fast the momentum's weight grows.
        decoupled_weight_decay: Decay the parameters themselves (NAdamW) instead of adding to the gradients.
        foreach: Accepted, and of no consequence: there is one implementation.
        maximize: Maximize the objective.
        capturable: Must be False: the step's numbers are computed on the host, and a captured graph would repeat them.
        differentiable: Must be False.
        state_dtype: Of momentum and variance: None (each parameter's own), torch.float32 or torch.bfloat16. It is the
            optimizer's, not the checkpoint's: a loaded state is converted.
        seed: Of the rounding to bfloat16, at least 0 and below 2^32. Not in the checkpoint.

    Raises:
        ValueError: A number out of range; capturable or differentiable.
        TypeError: An unknown state_dtype.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        state_dtype: torch.dtype | None = None,
        seed: int = 0,
    ) -> None:
        if state_dtype not in _STATE_DTYPES:
            raise TypeError(f"state_dtype must be one of {_STATE_DTYPES}, got {state_dtype!r}")
        if not isinstance(seed, int) or not 0 <= seed <= _MASK:
            raise ValueError(f"seed must be an integer from 0 to {_MASK}, got {seed!r}")
        self.state_dtype = state_dtype
        self.seed = seed
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            momentum_decay,
            decoupled_weight_decay,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
        )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """See `torch.optim.Optimizer.add_param_group`.

        Raises:
            ValueError: The group asks for capturable or differentiable.
        """
        options = {**self.defaults, **param_group}
        for name in ("capturable", "differentiable"):
            if options[name]:
                raise ValueError(f"{name} must be False, got {options[name]}: the step's numbers are the host's")
        super().add_param_group(param_group)

    # a compiler would take the step's numbers, which change every time, for constants
    @_disable_dynamo
    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of every parameter that has a gradient.

        Args:
            closure: Computes the loss and its gradients anew, and returns the loss.

        Returns:
            What the closure returns, None without one.

        Raises:
            RuntimeError: A sparse gradient; a factor of a gradient that was changed since the backward; a GPU graph is
                being captured.
            TypeError: A complex parameter, and a state_dtype.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._check()
        index = 0
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group, index)
                index += 1
        return loss

    def _check(self) -> None:
        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            raise RuntimeError("NAdam's step cannot be captured in a graph, which would repeat this step's numbers")
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if parameter.grad.is_sparse:
                    raise RuntimeError("NAdam does not support sparse gradients")
                if parameter.is_complex() and self.state_dtype is not None:
                    raise TypeError(f"state_dtype must be None for complex parameters, got {self.state_dtype}")

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any], index: int) -> None:
        state = self.state[parameter]
        if not state:
            dtype = torch.float64 if torch.get_default_dtype() == torch.float64 else torch.float32
            state["step"] = torch.zeros((), dtype=dtype, device="cpu")
            state["mu_product"] = torch.ones((), dtype=dtype, device="cpu")
            state["exp_avg"] = _zeros_like(parameter, self.state_dtype)
            state["exp_avg_sq"] = _zeros_like(parameter, self.state_dtype)
        numbers = _next_step(state, group)
        key = 0
        if state["exp_avg"].dtype == torch.bfloat16:
            key = _mix(_mix(_mix(self.seed) ^ index) ^ int(state["step"].item()))
        step = (*numbers, group["maximize"], key)
        tensors = [_elements(tensor) for tensor in (parameter, state["exp_avg"], state["exp_avg_sq"])]
        if isinstance(gradient, FactoredGrad) and gradient.rest is None:
            ops.nadam_factored_(*tensors, gradient.left, gradient.right, *step)
        else:
            ops.nadam_dense_(*_in_memory_order(*tensors, _dense(gradient, parameter)), *step)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `torch.optim.Optimizer.load_state_dict`.

        torch's own would convert momentum, variance and the product of mu to the parameter's dtype.
        """
        # registered last, it runs after the hooks of others
        hook = self.register_load_state_dict_pre_hook(_shield)
        try:
            super().load_state_dict(state_dict)
        finally:
            hook.remove()

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "state_dtype": self.state_dtype, "seed": self.seed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for parameter, values in self.state.items():
            for name, value in values.items():
                if isinstance(value, _Shielded):
                    values[name] = self._placed(value.tensor, parameter, name)
        super().__setstate__({})
        # how a checkpoint was computed does not bind this optimizer
        for group in self.param_groups:
            group["capturable"] = group["differentiable"] = False

    def _placed(self, value: Tensor, parameter: Tensor, name: str) -> Tensor:
        """A loaded value where and as what it is kept."""
        if name in ("step", "mu_product"):
            return value.to("cpu")
        return value.to(parameter.device, self.state_dtype or parameter.dtype)


class _Shielded:
    """A loaded tensor that torch's conversion does not see."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def _shield(_optimizer: torch.optim.Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    known = {index for group in state_dict["param_groups"] for index in group["params"]}
    state = dict(state_dict["state"])
    for index in known & state.keys():
        values = state[index].items()
        state[index] = {name: _Shielded(value) if torch.is_tensor(value) else value for name, value in values}
    return {**state_dict, "state": state}


def _zeros_like(parameter: Tensor, dtype: torch.dtype | None) -> Tensor:
    zeros = torch.empty_like(parameter, dtype=dtype, memory_format=torch.preserve_format)
    native.advise_huge_pages(_elements(zeros))
    return zeros.zero_()


def _elements(tensor: Tensor) -> Tensor:
    """What a kernel takes: real numbers, and of a distributed tensor those that are here."""
    if hasattr(tensor, "to_local"):
        tensor = tensor.to_local()
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _dense(gradient: Any, parameter: Any) -> Tensor:
    """The gradient's elements, those of the parameter that are here."""
    if isinstance(gradient, FactoredGrad):
        # what was made dense is taken, not copied
        folded = gradient.rest if gradient.left.shape[0] == 0 else None
        return gradient.dense() if folded is None else folded
    if hasattr(gradient, "redistribute"):
        gradient = gradient.redistribute(parameter.device_mesh, parameter.placements)
    return _elements(gradient)


def _in_memory_order(*tensors: Tensor) -> list[Tensor]:
    """The tensors with the first one's dimensions by stride: contiguous where they are channels_last, say."""
    first = tensors[0]
    if first.is_contiguous():
        return list(tensors)
    order = sorted(range(first.dim()), key=first.stride, reverse=True)
    return [tensor.permute(order) for tensor in tensors]


def _next_step(state: dict[str, Any], group: dict[str, Any]) -> tuple[float, ...]:
    """Counts the step. Returns the numbers from beta1 to bias_correction2 that the operators take."""
    state["step"] += 1
    step = state["step"].item()
    lr, decay = float(group["lr"]), group["weight_decay"]
    beta1, beta2 = group["betas"]
    mu = beta1 * (1 - 0.5 * 0.96 ** (step * group["momentum_decay"]))
    next_mu = beta1 * (1 - 0.5 * 0.96 ** ((step + 1) * group["momentum_decay"]))
    state["mu_product"] *= mu
    product = state["mu_product"].item()
    return (
        beta1,
        beta2,
        group["eps"],
        0.0 if group["decoupled_weight_decay"] else decay,
        1 - lr * decay if group["decoupled_weight_decay"] else 1.0,
        lr * (1 - mu) / (1 - product),
        lr * next_mu / (1 - product * next_mu),
        1 - beta2**step,
    )


def _mix(x: int) -> int:
    """Wellons' hash "lowbias32"."""
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & _MASK
    x = ((x ^ (x >> 15)) * 0x846CA68B) & _MASK
    return x ^ (x >> 16)
