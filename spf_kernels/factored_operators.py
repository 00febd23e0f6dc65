"""What PyTorch's operators do with a `FactoredGrad` without making it dense.

A handler takes the operator and its arguments, and returns NotImplemented for arguments it does not know: then, and
for operators without a handler, the gradient is made dense or, where the operator would write to it, the call refused.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from spf_kernels.factors import DTYPES, HANDLERS, Contents, FactoredGrad, call_on_dense

_aten = torch.ops.aten


def _is_factored(value: Any) -> bool:
    return isinstance(value, FactoredGrad)


def _unless_dense(handler: Callable[..., Any]) -> Callable[..., Any]:
    """A handler that makes a new gradient: of one that has been made dense it is a plain tensor."""

    def checked(func: Any, *args: Any, **kwargs: Any) -> Any:
        if any(_is_factored(value) and value.contents.is_folded for value in args):
            return NotImplemented
        return handler(func, *args, **kwargs)

    return checked


def _is_number(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.dim() == 0 and not value.is_complex()
    return isinstance(value, int | float)


def _like(one: Any, other: Any) -> bool:
    return isinstance(other, Tensor) and (other.shape, other.dtype, other.device) == (one.shape, one.dtype, one.device)


def _scaled_left(operation: Callable[..., Tensor], contents: Contents, number: Any) -> Tensor:
    left, _ = contents.factors()
    # at least float32: a scaled dense gradient is not rounded to the factor's dtype either
    dtype = torch.promote_types(contents.dtype, torch.float32)
    return operation(left.to(torch.promote_types(left.dtype, dtype)), number)


def _alias(func: Any, gradient: FactoredGrad) -> FactoredGrad:
    return FactoredGrad.sharing(gradient.contents)


def _clone(func: Any, gradient: FactoredGrad, *, memory_format: Any = None) -> FactoredGrad:
    rest = None if gradient.rest is None else gradient.rest.clone()
    return FactoredGrad(gradient.left.clone(), gradient.right.clone(), gradient.dtype, rest)


def _to_copy(func: Any, gradient: FactoredGrad, *, dtype: Any = None, device: Any = None, **options: Any) -> Any:
    dtype = dtype or gradient.dtype
    if dtype not in DTYPES or options.get("layout") not in (None, torch.strided) or options.get("pin_memory"):
        return NotImplemented
    move = partial(
        Tensor.to, device=device or gradient.device, non_blocking=options.get("non_blocking", False), copy=True
    )
    rest = None if gradient.rest is None else move(gradient.rest, dtype=dtype)
    return FactoredGrad(move(gradient.left), move(gradient.right), dtype, rest)


def _zeros_like(func: Any, gradient: FactoredGrad, *, dtype: Any = None, device: Any = None, **options: Any) -> Tensor:
    return torch.zeros(gradient.shape, dtype=dtype or gradient.dtype, device=device or gradient.device)


def _new_empty_strided(func: Any, gradient: FactoredGrad, size: Any, stride: Any, **options: Any) -> Any:
    # with copy_, this is autograd's deep copy of a gradient that someone else holds too
    if tuple(size) != tuple(gradient.shape) or options.get("dtype") not in (None, gradient.dtype):
        return NotImplemented
    empty = FactoredGrad(gradient.left, gradient.right, gradient.dtype)
    empty.contents.drop_factors()
    return empty


def _copy_(func: Any, target: Any, source: Any, non_blocking: bool = False) -> Any:
    if not (_is_factored(target) and _is_factored(source) and _like(target, source)) or target.rest is not None:
        return NotImplemented
    copy = _clone(func, source)
    target.contents.rest = copy.rest
    target.contents.set_factors(copy.left, copy.right)
    return target


def _zero_(func: Any, gradient: FactoredGrad) -> FactoredGrad:
    if gradient.rest is not None:
        gradient.rest.zero_()
    gradient.contents.drop_factors()
    return gradient


def _add(func: Any, one: Any, other: Any, *, alpha: Any = 1) -> Any:
    if not (_is_factored(one) and _is_factored(other) and _like(one, other)):
        return NotImplemented
    rest = None if one.rest is None else one.rest.clone()
    return _add_(func, FactoredGrad(one.left, one.right, one.dtype, rest), other, alpha=alpha)


def _add_(func: Any, target: Any, other: Any, *, alpha: Any = 1) -> Any:
    if not (_is_factored(target) and _like(target, other)):
        return NotImplemented
    if _is_factored(other):
        other = _add_factors(target.contents, other.contents, alpha)
    if other is not None:
        rest = target.rest
        target.contents.rest = torch.mul(other, alpha) if rest is None else rest.add_(other, alpha=alpha)
    return target


def _add_factors(target: Contents, other: Contents, alpha: Any) -> Tensor | None:
    """Puts the factors of one behind those of the other; returns the dense part that is still to be added."""
    if target.batch and target.outweigh_dense(target.batch + other.batch):
        target.fold("accumulated factors as large as the dense gradient")
    if target.is_folded:
        return other.fold("a sum with a gradient that is dense already")
    (left, right), (more_left, more_right) = target.factors(), other.factors()
    if alpha != 1:
        more_left = _scaled_left(torch.mul, other, alpha)
    target.set_factors(torch.cat([left, more_left]), torch.cat([right, more_right]))
    return other.rest


def _foreach_add_(func: Any, targets: Any, others: Any, *, alpha: Any = 1) -> Any:
    pairs = list(zip(targets, others, strict=True))
    if not all(_like(target, other) for target, other in pairs):
        return NotImplemented
    for target, other in pairs:
        target.add_(other, alpha=alpha)
    return None


def _scaled(operation: Callable[..., Tensor], func: Any, gradient: Any, number: Any) -> Any:
    if operation is torch.mul and not _is_factored(gradient):
        gradient, number = number, gradient
    if not _is_factored(gradient) or not _is_number(number):
        return NotImplemented
    rest = None if gradient.rest is None else operation(gradient.rest, number)
    return FactoredGrad(_scaled_left(operation, gradient.contents, number), gradient.right, gradient.dtype, rest)


def _negated(func: Any, gradient: FactoredGrad) -> Any:
    return _scaled(torch.mul, func, gradient, -1)


def _scaled_in_place(operation: Callable[..., Tensor], func: Any, gradient: Any, number: Any) -> Any:
    if not _is_factored(gradient) or not _is_number(number):
        return NotImplemented
    left = _scaled_left(operation, gradient.contents, number)
    if gradient.rest is not None:
        operation(gradient.rest, number, out=gradient.rest)
    gradient.contents.set_factors(left, gradient.right)
    return gradient


def _negated_in_place(func: Any, gradient: FactoredGrad) -> Any:
    return _scaled_in_place(torch.mul, func, gradient, -1)


def _each(single: Callable[..., Any], func: Any, gradients: Any, *numbers: Any) -> Any:
    """An operator in place on a list of gradients, some of them dense, by the handler of a single one."""
    if not all(_is_number(number) for number in numbers):
        return NotImplemented
    dense = [gradient for gradient in gradients if not _is_factored(gradient)]
    if dense:
        func(dense, *numbers)
    for gradient in filter(_is_factored, gradients):
        single(func, gradient, *numbers)
    return None


def _norm(func: Any, gradient: Any, ord: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    if ord != 2 or dim is not None or keepdim:
        return NotImplemented
    return gradient.square_norm().sqrt().to(dtype or gradient.dtype)


def _foreach_norm(func: Any, gradients: Any, ord: Any = 2, dtype: Any = None) -> Any:
    if ord != 2:
        return NotImplemented
    plain = [gradient for gradient in gradients if not _is_factored(gradient)]
    norms = iter(func(plain, ord, dtype) if plain else ())
    return [_norm(func, each, dtype=dtype) if _is_factored(each) else next(norms) for each in gradients]


def _is_finite(gradient: FactoredGrad) -> bool | None:
    """Whether every element is; None where only the dense gradient can tell: finite factors can have infinite sums."""
    if gradient.rest is not None:
        return None
    bound = float(gradient.contents.batch)
    for factor in gradient.contents.factors():
        if factor.numel():
            lowest, highest = torch.aminmax(factor)
            # NaN and infinity stay what they are
            bound *= float(torch.maximum(-lowest, highest))
    if not math.isfinite(bound):
        return False
    return True if bound < torch.finfo(gradient.dtype).max / 2 else None


def _unscale(func: Any, gradients: Any, found_infinite: Tensor, inverse_scale: Tensor) -> None:
    """GradScaler's check and division."""
    dense = []
    for gradient in gradients:
        finite = _is_finite(gradient) if _is_factored(gradient) else None
        if finite is None:
            dense.append(gradient.contents.fold(str(func)) if _is_factored(gradient) else gradient)
            continue
        if not finite:
            found_infinite.fill_(1)
        _scaled_in_place(torch.mul, func, gradient, inverse_scale)
    if dense:
        func(dense, found_infinite, inverse_scale)


HANDLERS.update(
    {
        _aten.detach.default: _alias,
        _aten.alias.default: _alias,
        _aten.clone.default: _unless_dense(_clone),
        _aten._to_copy.default: _unless_dense(_to_copy),
        _aten.zeros_like.default: _zeros_like,
        _aten.empty_like.default: _zeros_like,
        _aten.new_empty_strided.default: _unless_dense(_new_empty_strided),
        _aten.copy_.default: _copy_,
        _aten.zero_.default: _zero_,
        _aten.add.Tensor: _unless_dense(_add),
        _aten.add_.Tensor: _add_,
        _aten.neg.default: _unless_dense(_negated),
        _aten.neg_.default: _negated_in_place,
        _aten.linalg_vector_norm.default: _norm,
        _aten.norm.Scalar: _norm,
        _aten._foreach_add_.List: _foreach_add_,
        _aten._foreach_zero_.default: partial(_each, _zero_),
        _aten._foreach_norm.Scalar: _foreach_norm,
        _aten._amp_foreach_non_finite_check_and_unscale_.default: _unscale,
    }
)
for _name, _operation in (("mul", torch.mul), ("div", torch.div)):
    _in_place = partial(_scaled_in_place, _operation)
    for _overload in ("Tensor", "Scalar"):
        HANDLERS[getattr(getattr(_aten, _name), _overload)] = _unless_dense(partial(_scaled, _operation))
        HANDLERS[getattr(getattr(_aten, f"{_name}_"), _overload)] = _in_place
        HANDLERS[getattr(getattr(_aten, f"_foreach_{_name}_"), _overload)] = partial(_each, _in_place)
# they would write to a gradient only to unscale it, which then is the dense one
for _name in ("adam", "adamw", "sgd", "adagrad"):
    for _overload in ("default", "tensor_lr"):
        HANDLERS[getattr(getattr(_aten, f"_fused_{_name}_"), _overload)] = call_on_dense
