"""The goals of the main case (two cores, B=12, 128 maps of 64x64, codes of 128) and what a run reached of them."""

from dataclasses import dataclass

from bench import memory
from bench.optimizers import FOREACH, OURS_BF16_STATE
from bench.peers import BADDBMM, COMPILED, LOOP, OURS, WEIGHT_FIRST
from bench.results import MAIN_BF16, MAIN_FP32, Results
from bench.steps import BACKWARD, FORWARD, FORWARD_BACKWARD, STEP, UPDATE

DECODER = "decoder, loss and gradients"
# the goal for the share of the pure read is set where reading decides, not arithmetic
SMALL_BATCHES = ("B1-64x64-D128-fp32", "B4-64x64-D128-fp32")


@dataclass(frozen=True)
class Goal:
    """A number to reach in the median, as a ratio within one run.

    Attributes:
        what: In words.
        goal: Where we want to be; None for a row that only informs.
        stretch: Where we would like to be; None where there is none.
        suite: Measured where.
        cases: The labels; the least of their values counts.
        provider: Whose numbers.
        span: What was timed.
        field: "ours_is_faster_by" or "share_of_limit".
    """

    what: str
    goal: float | None
    stretch: float | None
    suite: str
    cases: tuple[str, ...]
    provider: str
    span: str
    field: str = "ours_is_faster_by"

    @property
    def unit(self) -> str:
        """Behind the numbers."""
        return "x" if self.field == "ours_is_faster_by" else ""

    def is_reached(self, value: float) -> bool:
        return self.goal is None or value >= self.goal

    def is_stretch_reached(self, value: float) -> bool:
        return self.stretch is not None and value >= self.stretch

    def measured(self, results: Results) -> float | None:
        """The least value over the cases; None where one of them was not measured."""
        found = [results.numbers(self.suite, case, self.provider, self.span) for case in self.cases]
        values = [numbers[self.field] for numbers in found if numbers is not None]
        return min(values) if len(values) == len(self.cases) else None


@dataclass(frozen=True)
class MemoryGoal:
    """At most this share of the loop's peak in the training step, above what the process takes before.

    Attributes:
        what: In words.
        goal: The share.
        provider: Whose peak.
    """

    what: str
    goal: float
    provider: str
    stretch: None = None
    unit: str = ""

    def measured(self, results: Results) -> float | None:
        """The share; None where the main case was not measured."""
        measured = results.memory.get(memory.TRAINING)
        if measured is None or not measured["main"]:
            return None
        peaks = measured["peak_mb"]
        return memory.growth(peaks[self.provider]) / memory.growth(peaks[LOOP])

    def is_reached(self, value: float) -> bool:
        return value <= self.goal

    def is_stretch_reached(self, _value: float) -> bool:
        return False


_FP32, _BF16 = (MAIN_FP32,), (MAIN_BF16,)

GOALS: tuple[Goal | MemoryGoal, ...] = (
    Goal("forward fp32 against baddbmm", 1.9, 2.2, "forward", _FP32, BADDBMM, FORWARD),
    Goal("forward fp32 against the loop", 2.8, 3.5, "forward", _FP32, LOOP, FORWARD),
    Goal("forward fp32, share of the pure read", 0.70, 0.80, "forward", _FP32, OURS, FORWARD, "share_of_limit"),
    Goal("the same, B = 1 and 4 (the lesser)", 0.95, None, "forward", SMALL_BATCHES, OURS, FORWARD, "share_of_limit"),
    Goal("forward bf16 maps and weights against bf16 baddbmm", 1.5, 2.0, "forward", _BF16, BADDBMM, FORWARD),
    Goal("backward fp32 against baddbmm", 5.0, 10.0, "backward", _FP32, BADDBMM, BACKWARD),
    Goal("backward fp32 against baddbmm, weight first", None, None, "backward", _FP32, WEIGHT_FIRST, BACKWARD),
    Goal("backward fp32 against the loop", 3.5, 7.0, "backward", _FP32, LOOP, BACKWARD),
    Goal("decoder, loss and gradients fp32 against baddbmm", 9.0, 12.0, DECODER, _FP32, BADDBMM, FORWARD_BACKWARD),
    Goal("training step against the loop", 3.5, 4.5, "training step", _FP32, LOOP, STEP),
    Goal("training step against torch.compile", 6.0, None, "training step", _FP32, COMPILED, STEP),
    Goal("update against torch's foreach", 5.0, None, "update", _FP32, FOREACH, UPDATE),
    MemoryGoal("training step, memory over the loop's, at most", 0.75, OURS),
    MemoryGoal("the same with bf16 state, at most", 0.53, OURS_BF16_STATE),
)


def verdict(goal: Goal | MemoryGoal, value: float | None) -> str:
    """In a word."""
    if value is None:
        return "not measured"
    if goal.goal is None:
        return ""
    if goal.is_stretch_reached(value):
        return "stretch goal reached"
    return "reached" if goal.is_reached(value) else "**missed**"
