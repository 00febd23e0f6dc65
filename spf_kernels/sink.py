"""How a compiled backward hands over a factored gradient: tensor subclasses cannot be made in a traced graph.

In the graph the gradient of the weight is a placeholder, a single zero expanded to the weight's shape, which costs
nothing. When the operator that makes it runs, it leaves the true gradient with a hook of the weight, which takes the
placeholder's place before another hook, or autograd's accumulation, sees that.
"""

from collections.abc import MutableMapping

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from spf_kernels import ops
from spf_kernels.factors import FactoredGrad, factored_gradient


class _Delivery:
    """The gradient of one weight in one backward, on its way to the weight."""

    def __init__(self, weight: Tensor, gradient: FactoredGrad, backward: int) -> None:
        self.gradient = gradient
        self.backward = backward
        self.hook = weight.register_hook(self)
        hooks = weight._backward_hooks or {}
        # every other hook goes behind this one
        for key in [key for key in hooks if key != self.hook.id]:
            hooks[key] = hooks.pop(key)

    def __call__(self, placeholder: Tensor) -> Tensor | None:
        self.hook.remove()
        if self.backward != torch._C._current_graph_task_id():
            # left over from a backward that failed, or did not want this gradient
            return None
        if placeholder.stride() == (0, 0, 0):
            return self.gradient
        # the weight has other gradients, too, which were added to the zeros
        return self.gradient.add_(placeholder)


_deliveries: MutableMapping[Tensor, _Delivery] = WeakTensorKeyDictionary()


def _sink(left: Tensor, right: Tensor, weight: Tensor) -> Tensor:
    if not (weight.is_leaf and weight.requires_grad):
        raise RuntimeError(
            f"grad_mode='factored': the compiled backward was handed a weight {tuple(weight.shape)} that is no leaf "
            "requiring a gradient, so that its gradient would be lost; use grad_mode='dense' here"
        )
    # copies: compiled code reuses its memory, unseen by version counters
    gradient = factored_gradient(left.clone(), right.clone(), weight)
    backward = torch._C._current_graph_task_id()
    earlier = _deliveries.get(weight)
    if earlier is not None and earlier.backward == backward:
        earlier.gradient.add_(gradient)
    else:
        if earlier is not None:
            earlier.hook.remove()
        _deliveries[weight] = _Delivery(weight, gradient, backward)
    return ops.sink_placeholder(left, right, weight)


ops.library.impl("sink", _sink, "CompositeExplicitAutograd")
