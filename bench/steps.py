"""What is timed: one call of a provider, with the weight set to use; each gives the seconds of its parts."""

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Spans = dict[str, float]
Step = Callable[[int], Spans]
Update = Callable[[], object]

FORWARD = "forward"
BACKWARD = "backward"
FORWARD_BACKWARD = "forward + backward"
STEP = "step"
UPDATE = "update"


Module = TypeVar("Module", bound=nn.Module)


class InferenceStep:
    """A forward without gradients.

    Attributes:
        outputs: Of the last call.
    """

    def __init__(self, modules: Sequence[nn.Module], inputs: Sequence[tuple[Tensor, ...]]) -> None:
        self.modules = modules
        self._inputs = inputs
        self.outputs: tuple[Tensor, ...] = ()

    @torch.no_grad()
    def __call__(self, index: int) -> Spans:
        module, inputs = self.modules[index], self._inputs[index]
        start = perf_counter()
        output = module(*inputs)
        end = perf_counter()
        self.outputs = (output,)
        return {FORWARD: end - start}


class TrainingStep(Generic[Module]):
    """One turn of the default training loop: zero_grad (set_to_none), forward, backward.

    As in training, a step's gradients live until the next one of the same provider begins.

    Attributes:
        modules: One a weight set.
        leaves: Their inputs, those of `with_gradient` with a gradient.
        outputs: Of the last call, detached.
    """

    def __init__(
        self,
        modules: Sequence[Module],
        inputs: Sequence[tuple[Tensor, ...]],
        with_gradient: tuple[bool, ...],
        upstream: tuple[Tensor | None, ...],
    ) -> None:
        self.modules = modules
        self.leaves = [
            tuple(t.detach().requires_grad_(wanted) for t, wanted in zip(tensors, with_gradient, strict=True))
            for tensors in inputs
        ]
        self.outputs: tuple[Tensor, ...] = ()
        self._upstream = upstream
        self._last = 0

    def _zero_grad(self) -> None:
        self.modules[self._last].zero_grad(set_to_none=True)
        for leaf in self.leaves[self._last]:
            leaf.grad = None

    def __call__(self, index: int) -> Spans:
        module, leaves = self.modules[index], self.leaves[index]
        self.outputs = ()
        start = perf_counter()
        self._zero_grad()
        outputs = module(*leaves)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        middle = perf_counter()
        torch.autograd.backward(outputs, self._upstream)
        end = perf_counter()
        self._last = index
        self.outputs = tuple(output.detach() for output in outputs)
        return {FORWARD_BACKWARD: end - start, BACKWARD: end - middle}


class KernelStep(TrainingStep[Module]):
    """A module that fills in the gradients itself, without autograd."""

    def __call__(self, index: int) -> Spans:
        start = perf_counter()
        self._zero_grad()
        loss = self.modules[index](*self.leaves[index])
        end = perf_counter()
        self._last = index
        self.outputs = (loss,)
        return {FORWARD_BACKWARD: end - start}


class UpdatingStep(TrainingStep[Module]):
    """A whole turn of the training loop of one weight set: zero_grad, forward, backward, the optimizer's step."""

    def __init__(
        self, module: Module, inputs: tuple[Tensor, ...], upstream: tuple[Tensor | None, ...], update: Update
    ) -> None:
        super().__init__([module], [inputs], with_gradient=(True,) * len(inputs), upstream=upstream)
        self._update = update

    def __call__(self, index: int) -> Spans:
        start = perf_counter()
        super().__call__(index)
        self._update()
        return {STEP: perf_counter() - start}


class UpdateStep:
    """The optimizer's step alone, one a weight set: the gradient is there, and stays."""

    def __init__(self, updates: Sequence[Update]) -> None:
        self._updates = updates

    def __call__(self, index: int) -> Spans:
        start = perf_counter()
        self._updates[index]()
        return {UPDATE: perf_counter() - start}
