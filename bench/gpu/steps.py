"""What is timed: one call of a provider on one weight set. It stamps its own beginning and end."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bench.gate import Values
from bench.gpu.clock import Clock, NoClock, Stamps
from bench.gpu.truth import pick

Outputs = dict[str, Tensor]


class UnavailableError(RuntimeError):
    """A provider cannot take part here; the message says why."""


def reason(error: Exception) -> str:
    """Why a provider is left out, in a line."""
    first = str(error).strip().partition("\n")[0][:160]
    return first if isinstance(error, UnavailableError) else f"{type(error).__name__}: {first}"


class Step(ABC):
    """One provider with all its weight sets."""

    @abstractmethod
    def __call__(self, index: int, clock: Clock) -> Stamps:
        """Makes one call on weight set `index`."""

    @abstractmethod
    def values(self, num_maps: int) -> Values:
        """What the last call computed, for the maps that are compared with float64."""


class FunctionStep(Step):
    """Calls without gradients.

    Args:
        span: The name of what is timed.
        functions: One a weight set; each gives named results (`truth.pick` knows the names).
    """

    def __init__(self, span: str, functions: Sequence[Callable[[], Outputs]]) -> None:
        self._span = span
        self._functions = functions
        self._outputs: Outputs = {}

    @torch.no_grad()
    def __call__(self, index: int, clock: Clock) -> Stamps:
        function = self._functions[index]
        start = clock.stamp()
        outputs = function()
        end = clock.stamp()
        self._outputs = outputs
        return {self._span: (start, end)}

    def values(self, num_maps: int) -> Values:
        return {name: pick(name, value, num_maps) for name, value in self._outputs.items()}


class GraphedStep(Step):
    """Another step captured in one CUDA graph a weight set, and replayed.

    Args:
        build: Builds the step that is captured.
        sets: How many weight sets it has.
        span: The name of what is timed: the whole.
        device: Must be a GPU.

    Raises:
        UnavailableError: The device is none.
    """

    def __init__(self, build: Callable[[], Step], sets: int, span: str, device: torch.device) -> None:
        if device.type != "cuda":
            raise UnavailableError("there are no CUDA graphs on a CPU")
        self._step = build()
        self._span = span
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        # handles, workspaces and compiled kernels must exist before the capture
        with torch.cuda.stream(side):
            for index in [*range(sets)] * 2:
                self._step(index, NoClock())
        torch.cuda.current_stream().wait_stream(side)
        # set 0 last: the step's own references are then to its results, which are the ones compared
        graphs = {index: self._capture(index) for index in reversed(range(sets))}
        self._graphs = [graphs[index] for index in range(sets)]

    def _capture(self, index: int) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._step(index, NoClock())
        return graph

    def __call__(self, index: int, clock: Clock) -> Stamps:
        graph = self._graphs[index]
        start = clock.stamp()
        graph.replay()
        return {self._span: (start, clock.stamp())}

    def values(self, num_maps: int) -> Values:
        return self._step.values(num_maps)
