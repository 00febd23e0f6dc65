"""When something began and ended: events on the GPU's stream, or the wall clock where there is no GPU."""

from time import perf_counter
from typing import Any, Protocol

import torch

# what a span of time is known by, and its first and last stamp
Stamps = dict[str, tuple[Any, Any]]


class Clock(Protocol):
    """Gives stamps while calls are made, and seconds between them after `synchronize`."""

    def stamp(self) -> Any: ...

    def seconds(self, start: Any, end: Any) -> float: ...

    def synchronize(self) -> None: ...


class EventClock:
    """CUDA events: nobody waits while calls are made."""

    def stamp(self) -> Any:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, start: Any, end: Any) -> float:
        return float(start.elapsed_time(end)) / 1e3

    def synchronize(self) -> None:
        torch.cuda.synchronize()


class WallClock:
    """For the CPU, where a call has ended when it returns."""

    def stamp(self) -> Any:
        return perf_counter()

    def seconds(self, start: Any, end: Any) -> float:
        return float(end - start)

    def synchronize(self) -> None:
        pass


class NoClock(WallClock):
    """Takes no stamps: for warm-up, capture, and the timing of the host alone."""

    def stamp(self) -> Any:
        return None


def clock_for(device: torch.device) -> Clock:
    return EventClock() if device.type == "cuda" else WallClock()


def synchronize(device: torch.device) -> None:
    clock_for(device).synchronize()
