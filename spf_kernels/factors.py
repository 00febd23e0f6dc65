"""Weight gradients kept as the factors of an outer product.

The gradient of every weight here is `outer(left, right)`, a sum of B outer products (in the literature: sufficient
factors). `FactoredGrad` holds `left` and `right` instead: exact, and smaller while B (D + S) < D S. What PyTorch's
operators do with it is in `factored_operators`.

Letters: B samples, C maps, D code size, S pixels of a map.
"""

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_any, tree_map

from spf_kernels import ops
from spf_kernels.counters import count

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
# by operator: takes the operator and its arguments, returns NotImplemented for arguments it does not know
HANDLERS: dict[Any, Callable[..., Any]] = {}
# elements that are widened to float64 at a time: on the CPU as many as stay in the cache
_WIDENED, _WIDENED_ON_CPU = 1 << 26, 1 << 17


def _version(tensor: Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version


def _without_graph(tensor: Tensor) -> Tensor:
    """An alias that does not keep the graph, and still has the version of the tensor it comes from."""
    # without need none is made: in a dispatch handler, below autograd, an alias would have a version of its own
    return tensor.detach() if tensor.requires_grad else tensor


class Contents:
    """What a gradient and its detached aliases share, so that a change in place reaches all of them.

    Args:
        left: (B, C, D).
        right: (B, C, S).
        rest: (C, D, S) or None; nobody else may hold it.
        dtype: Of the dense gradient.
    """

    def __init__(self, left: Tensor, right: Tensor, rest: Tensor | None, dtype: torch.dtype) -> None:
        self.rest = rest
        self.dtype = dtype
        self.set_factors(left, right)

    def set_factors(
        self, left: Tensor, right: Tensor, arriving: Callable[[], tuple[Tensor, Tensor]] | None = None
    ) -> None:
        """Replaces the factors; what they are now is what `factors` will insist on.

        Args:
            left: (B, C, D).
            right: (B, C, S).
            arriving: Where these are only as large as the factors, which are still on their way: waits for the true
                ones. Called when they are first used.
        """
        self._arriving = arriving
        self._left, self._right = _without_graph(left), _without_graph(right)
        self._versions = (_version(self._left), _version(self._right))

    def drop_factors(self) -> None:
        """Leaves factors of no samples."""
        left, right = self._left, self._right
        self.set_factors(left.new_empty(0, *left.shape[1:]), right.new_empty(0, *right.shape[1:]))

    def factors(self) -> tuple[Tensor, Tensor]:
        """The factors, if nobody has changed them in place since they were set, else RuntimeError."""
        if self._arriving is not None:
            self.set_factors(*self._arriving())
        for name, tensor, version in zip(("left", "right"), (self._left, self._right), self._versions, strict=True):
            if _version(tensor) != version:
                raise RuntimeError(
                    f"the tensor behind the factor {name} {tuple(tensor.shape)} of a factored gradient was changed in "
                    f"place after the backward (version {_version(tensor)}, expected {version}). The feature maps, "
                    "codes or gradients that a factored gradient is made of must stay as they are until the optimizer "
                    "has stepped: change a copy (`maps.clone()`), or use grad_mode='dense'."
                )
        return self._left, self._right

    @property
    def batch(self) -> int:
        """B, the samples of the factors."""
        return self._left.shape[0]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, D, S)."""
        return self._left.shape[1], self._left.shape[2], self._right.shape[2]

    @property
    def device(self) -> torch.device:
        """Of the factors and the rest."""
        return self._left.device

    @property
    def is_folded(self) -> bool:
        """Whether all of the gradient is in the rest."""
        return self.rest is not None and self.batch == 0

    def outweigh_dense(self, batch: int) -> bool:
        """Whether factors of `batch` samples are no smaller than the dense gradient."""
        _, D, S = self.shape
        return batch * (D + S) >= D * S

    def dense(self) -> Tensor:
        """The gradient as a new tensor."""
        left, right = self.factors()
        if self.rest is not None and self.batch == 0:
            return self.rest.clone()
        product: Tensor = ops.outer(left, right, self.dtype)
        return product if self.rest is None else product.add_(self.rest)

    def fold(self, event: str) -> Tensor:
        """The dense gradient, which is what the rest becomes: later changes of it, or of views of it, are not lost.

        Args:
            event: What needs it, for the counter and for the error of SPF_FACTORED_STRICT=1.
        """
        if self.rest is None or self.batch > 0:
            left, right = self.factors()
            if os.environ.get("SPF_FACTORED_STRICT") == "1":
                raise RuntimeError(
                    f"SPF_FACTORED_STRICT=1 forbids to materialise a factored gradient, as {event} needs"
                )
            count(f"factored gradient materialised: {event}")
            product: Tensor = ops.outer(left, right, self.dtype)
            self.rest = product if self.rest is None else self.rest.add_(product)
            self.drop_factors()
        return self.rest

    def square_norm(self) -> Tensor:
        """See `FactoredGrad.square_norm`."""
        if self.rest is None and not self.outweigh_dense(self.batch):
            return _gram_square_norm(*self.factors())
        norm: Tensor = torch.linalg.vector_norm(self.fold("square_norm"), dtype=torch.float64)
        return norm.square()


def _gram_square_norm(left: Tensor, right: Tensor) -> Tensor:
    total = left.new_zeros((), dtype=torch.float64)
    widened = _WIDENED_ON_CPU if left.device.type == "cpu" else _WIDENED
    maps = max(1, widened // max(1, right.shape[0] * right.shape[2]))
    for some_left, some_right in zip(left.split(maps, 1), right.split(maps, 1), strict=True):
        rows, columns = some_left.double().transpose(0, 1), some_right.double().transpose(0, 1)
        total += (torch.bmm(rows, rows.mT) * torch.bmm(columns, columns.mT)).sum()
    # samples that cancel leave a rounding error of either sign
    return total.clamp_(min=0)


class FactoredGrad(Tensor):
    """The gradient of a weight (C, D, S) as `outer(left, right) + rest`.

    What `grad_mode="factored"` leaves in `weight.grad`. Every operation that reads it is right. These do not make the
    dense gradient: detach, clone, conversion, scaling, the 2-norm, zero_, the sum of two, their foreach forms and
    GradScaler's. A sum is the factors of both, one behind the other: memory grows with every micro-batch until the
    factors would be as large as the dense gradient, which then takes their place. A dense gradient that is added in
    place is kept beside the factors, as `rest`. Every other operation that reads a factored gradient makes it dense:
    that is counted (`spf_kernels.counters`), the gradient stays so, and with SPF_FACTORED_STRICT=1 it is a RuntimeError
    instead. Every other operation that would write to it raises RuntimeError.

    `left` and `right` are no copies (under torch.compile they are): to change the feature maps in place between the
    backward and the step is an error, found by the tensors' version counters when the gradient is used. (Writing
    through `.data` escapes them, as it escapes autograd.)

    Pickled or saved, it is a plain dense tensor.

    Args:
        left: (B, C, D).
        right: (B, C, S), on the device of `left`.
        dtype: Of the gradient; the factors may have others.
        rest: None, or a dense remainder (C, D, S) of that dtype, taken over, not copied.

    Attributes:
        contents: The factors and the rest, shared with detached aliases.

    Raises:
        ValueError: Shapes or devices that do not fit.
        TypeError: A dtype other than float32, float64, bfloat16 and float16, or a rest of another dtype.
    """

    # no __tensor_flatten__: torch.compile fails on a plain parameter whose gradient has one; without, it leaves such a
    # gradient alone. A subclass's torch functions would wrap every result; the dispatcher decides here.
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    contents: Contents

    def __new__(cls, left: Tensor, right: Tensor, dtype: torch.dtype, rest: Tensor | None = None) -> "FactoredGrad":
        """See the class."""
        _check(left, right, dtype, rest)
        return cls.sharing(Contents(left, right, rest, dtype))

    @classmethod
    def sharing(cls, contents: Contents) -> "FactoredGrad":
        """An alias: a gradient with these very contents."""
        gradient: FactoredGrad = torch.Tensor._make_wrapper_subclass(
            cls, contents.shape, dtype=contents.dtype, device=contents.device
        )
        gradient.contents = contents
        return gradient

    @property
    def left(self) -> Tensor:
        """(B, C, D). RuntimeError if it was changed in place since the backward."""
        return self.contents.factors()[0]

    @property
    def right(self) -> Tensor:
        """(B, C, S). RuntimeError if it was changed in place since the backward."""
        return self.contents.factors()[1]

    @property
    def rest(self) -> Tensor | None:
        """(C, D, S) of the gradient's dtype, or None: what was added in dense form."""
        return self.contents.rest

    def dense(self) -> Tensor:
        """The gradient (C, D, S) as a new, plain tensor; not counted.

        Raises:
            RuntimeError: A factor was changed in place since the backward.
        """
        return self.contents.dense()

    def square_norm(self) -> Tensor:
        """The sum of squares, () in float64.

        Of the factors it is the sum over maps of (L L^T) * (R R^T), with L (B, D) and R (B, S). Where there is a rest,
        or the dense gradient is smaller than the factors, the gradient is made dense, which is counted.

        Raises:
            RuntimeError: A factor was changed in place since the backward; the gradient would be made dense and
                SPF_FACTORED_STRICT=1.
        """
        return self.contents.square_norm()

    @property
    def data(self) -> Tensor:
        """A detached alias."""
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        # Module.to sets the data of a gradient
        if not isinstance(value, FactoredGrad):
            raise RuntimeError("the data of a factored gradient can only be set to another one; set `.grad` instead")
        torch.Tensor.data.__set__(self, value)  # type: ignore[attr-defined]
        self.contents = value.contents

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        rest = "" if self.rest is None else ", with a dense rest"
        return (
            f"FactoredGrad(shape={tuple(self.shape)}, dtype={self.dtype}, device='{self.device}', "
            f"factors of {self.contents.batch} samples{rest})"
        )

    def data_ptr(self) -> int:
        """There is none: RuntimeError, rather than a null pointer for somebody's kernel."""
        raise RuntimeError("a factored gradient has no elements in memory; use `dense()`")

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copy: Tensor = memo.setdefault(id(self), self.clone())
        return copy

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.dense().__reduce_ex__(protocol)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        handler = HANDLERS.get(func)
        result = NotImplemented if handler is None else handler(func, *args, **kwargs)
        if result is not NotImplemented:
            return result
        _refuse_writes(func, args, kwargs)
        return call_on_dense(func, *args, **kwargs)


def _check(left: Tensor, right: Tensor, dtype: torch.dtype, rest: Tensor | None) -> None:
    if left.dim() != 3:
        raise ValueError(f"left must have shape (batch, maps, code size), got {tuple(left.shape)}")
    if right.dim() != 3 or right.shape[:2] != left.shape[:2]:
        raise ValueError(f"right must have shape {(*left.shape[:2], 'pixels')}, got {tuple(right.shape)}")
    if right.device != left.device:
        raise ValueError(f"right must be on the device of left ({left.device}), got {right.device}")
    for name, value in (("left", left.dtype), ("right", right.dtype), ("dtype", dtype)):
        if value not in DTYPES:
            raise TypeError(f"{name} must be float32, float64, bfloat16 or float16, got {value}")
    if rest is None:
        return
    shape = (*left.shape[1:], right.shape[2])
    if tuple(rest.shape) != shape or rest.device != left.device:
        raise ValueError(f"rest must have shape {shape} on {left.device}, got {tuple(rest.shape)} on {rest.device}")
    if rest.dtype != dtype:
        raise TypeError(f"rest must have the gradient's dtype {dtype}, got {rest.dtype}")


def _refuse_writes(func: Any, args: Any, kwargs: Any) -> None:
    """RuntimeError if the operator would write to a factored gradient, in whichever argument or list it sits."""
    for index, argument in enumerate(func._schema.arguments):
        value = args[index] if index < len(args) else kwargs.get(argument.name)
        written = argument.alias_info is not None and argument.alias_info.is_write
        if written and tree_any(lambda leaf: isinstance(leaf, FactoredGrad), value):
            raise RuntimeError(
                f"{func} would write to a factored gradient (argument {argument.name!r}), which holds the factors of "
                "its elements only. Nothing was changed. Make it dense first (`weight.grad = weight.grad.dense()`), or "
                "use grad_mode='dense'. Before DistributedDataParallel(model), "
                "`spf_kernels.distributed.gather_factors(model)`."
            )


def call_on_dense(func: Any, *args: Any, **kwargs: Any) -> Any:
    """Calls an operator with the dense gradients of the factored ones among its arguments."""

    def fold(value: Any) -> Any:
        return value.contents.fold(str(func)) if isinstance(value, FactoredGrad) else value

    return func(*tree_map(fold, args), **tree_map(fold, kwargs))


def factored_gradient(left: Tensor, right: Tensor, weight: Tensor) -> FactoredGrad:
    """The gradient of `weight` from the factors that a backward has found: the one place where they are made.

    Args:
        left: (B, C, D).
        right: (B, C, S).
        weight: (C, D, S); the gradient gets its dtype.
    """
    return FactoredGrad(left, right, weight.dtype)
