"""What every operation says about itself."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

from bench.cases import Case, Inputs
from bench.gate import Values
from bench.gpu.steps import Step, UnavailableError

# names of providers beside those of bench.peers
OURS_GRAPH = "spf_kernels, CUDA graph"
LOOP_GRAPH = "loop of nn.Linear, CUDA graph"
COMPILED = "torch.compile max-autotune"
GROUPED = "F.grouped_mm"

KERNEL = "kernel"

Builder = Callable[[], Step]


class Operation(ABC):
    """Something to measure, with everyone who can do it.

    Attributes:
        name: As in the tables.
        needs_encoder: Whether the inputs need the encoder's weights.
        needs_decoder: Likewise the decoder's.
    """

    name: ClassVar[str]
    needs_encoder: ClassVar[bool] = True
    needs_decoder: ClassVar[bool] = False

    @abstractmethod
    def num_bytes(self, case: Case) -> dict[str, int]:
        """By span, what has to be moved at least: every input read once, every result written once."""

    @abstractmethod
    def providers(self, case: Case, sets: Sequence[Inputs]) -> dict[str, Builder]:
        """By name, what builds a provider's step; building may raise, and says then why it does not take part."""

    @abstractmethod
    def exact(self, inputs: Inputs) -> Values:
        """The results in float64, on the maps that are compared."""

    def compiles(self, case: Case) -> bool:
        """Whether torch.compile takes part: its search costs up to half a minute a size."""
        return case.is_main or case.num_maps < 128


def not_compiled() -> Step:
    """The builder of torch.compile where it does not take part."""
    raise UnavailableError("compile time: the main sizes only")
