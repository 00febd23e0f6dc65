"""What the machine can do at best: a pure read and a pure write of the weights' bytes, timed in the same rounds."""

from collections.abc import Callable, Sequence
from time import perf_counter

import torch
from torch import Tensor

from bench.steps import Spans
from spf_kernels.backends import native

READ = "pure read"
WRITE = "pure write"


def _native_function(name: str) -> Callable[[int, int, int], object] | None:
    if native.unavailable():
        return None
    function: Callable[[int, int, int], object] | None = getattr(native.extension(), name, None)
    return function


def _on_bytes(function: Callable[[int, int, int], object]) -> Callable[[Tensor], object]:
    return lambda tensor: function(tensor.data_ptr(), tensor.numel() * tensor.element_size(), torch.get_num_threads())


def _seconds(function: Callable[[Tensor], object], tensor: Tensor) -> float:
    start = perf_counter()
    function(tensor)
    return perf_counter() - start


def _fastest(candidates: dict[str, Callable[[Tensor], object]], buffers: Sequence[Tensor]) -> str:
    """The candidate with the shortest of a few calls, the buffers taken in turn."""
    best = {
        name: min(_seconds(run, buffer) for buffer in [*buffers, *buffers[:1]] * 3) for name, run in candidates.items()
    }
    return min(best, key=lambda name: best[name])


class Limit:
    """A step that only reads, or only writes, one buffer.

    Attributes:
        method: What does it: the library's own loop, or the fastest of torch's.
    """

    def __init__(self, kind: str, weights: Sequence[Tensor]) -> None:
        self.kind = kind
        if kind == READ:
            candidates: dict[str, Callable[[Tensor], object]] = {
                "torch.sum of float32": lambda t: t.view(-1).view(torch.float32).sum(),
                "torch.sum of int64": lambda t: t.view(-1).view(torch.int64).sum(),
                "torch.amax of float32": lambda t: t.view(-1).view(torch.float32).amax(),
            }
            own, self._buffers = _native_function("measure_read"), list(weights)
        else:
            candidates = {"torch.fill_": lambda t: t.fill_(1.0), "torch.zero_": lambda t: t.zero_()}
            own, self._buffers = _native_function("measure_write"), [torch.ones_like(w) for w in weights]
        if own is not None:
            candidates[own.__name__] = _on_bytes(own)
        self.method = _fastest(candidates, self._buffers)
        self._run = candidates[self.method]

    def __call__(self, index: int) -> Spans:
        return {self.kind: _seconds(self._run, self._buffers[index])}
