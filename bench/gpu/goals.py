"""The goals on a card, and what a run reached of them."""

from dataclasses import dataclass

from bench.gpu.limits import COPY
from bench.gpu.operations.base import COMPILED, KERNEL
from bench.gpu.results import Results, Row
from bench.peers import BADDBMM, LOOP, OURS
from bench.steps import FORWARD, STEP

MAIN = "B12-64x64-D128"
DTYPES = ("fp32", "bf16")


def is_peer(provider: str) -> bool:
    # ours come in several forms: in a graph, with bf16 state
    return not provider.startswith(OURS)


def best_peer(rows: dict[str, Row]) -> Row | None:
    """The fastest peer of a case and span."""
    peers = [row for provider, row in rows.items() if is_peer(provider)]
    return min(peers, key=lambda row: float(row["median_ms"]), default=None)


@dataclass(frozen=True)
class Goal:
    """A number to reach.

    Attributes:
        what: In words.
        least: The number.
        measured: Its value in the run; None where it was not measured.
    """

    what: str
    least: float
    measured: float | None

    @property
    def verdict(self) -> str:
        if self.measured is None:
            return "not measured"
        return "reached" if self.measured >= self.least else "**missed**"


def _share(results: Results, operation: str, case: str, span: str) -> float | None:
    row = results.of(operation, case, span).get(OURS)
    return None if row is None else float(row["share_of_copy"])


def _ratio(row: Row | None) -> float | None:
    return None if row is None or "ours_is_faster_by" not in row else float(row["ours_is_faster_by"])


def _least_forward_ratio(results: Results) -> float | None:
    """The forward against the best peer, in the case where that is best for the peer."""
    cases = {row["case"] for row in results.rows if row["operation"] == "forward"}
    ratios = [_ratio(best_peer(results.of("forward", case, FORWARD))) for case in cases]
    return min((ratio for ratio in ratios if ratio is not None), default=None)


def goals(results: Results) -> list[Goal]:
    """Every goal with its value in this run; a rehearsal has none."""
    if results.machine.get("smoke", True):
        results = Results()
    found = []
    for dtype in DTYPES:
        case = f"{MAIN}-{dtype}"
        for operation, span in (
            ("forward", FORWARD),
            ("maps gradient", KERNEL),
            ("weight gradient", KERNEL),
            ("reconstruct", KERNEL),
        ):
            share = _share(results, operation, case, span)
            found.append(Goal(f"{operation} {dtype}, share of the {COPY} rate", 0.85, share))
    for dtype in (*DTYPES, "tf32"):
        forward = results.of("forward", f"{MAIN}-{dtype}", FORWARD)
        found.append(Goal(f"forward {dtype}, against the best peer", 0.97, _ratio(best_peer(forward))))
    found.append(Goal("forward, against the best peer, least of all cases", 0.97, _least_forward_ratio(results)))
    for dtype in DTYPES:
        forward = results.of("forward", f"{MAIN}-{dtype}", FORWARD)
        found.append(Goal(f"forward {dtype}, against the eager loop", 10.0, _ratio(forward.get(LOOP))))
    step = results.of("training step", f"{MAIN}-{DTYPES[0]}", STEP)
    found.append(Goal("training step, against the compiled one", 1.25, _ratio(step.get(COMPILED))))
    found.append(Goal("training step, against baddbmm and foreach", 4.0, _ratio(step.get(BADDBMM))))
    return found
