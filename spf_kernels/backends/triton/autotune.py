"""SPF_AUTOTUNE=1: searches each new size's configuration on the card, instead of taking the table's.

For people whose sizes or cards the tables do not know. The choice is by time, so two runs may sum in different orders.
"""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

import triton

from spf_kernels.backends.triton.launch import Card, Config, configure

Key = tuple[str, Card, str, int, int, int, int, int]

ENABLED = os.environ.get("SPF_AUTOTUNE") == "1"

_found: dict[Key, Config] = {}
_trial: Config | None = None


def candidates(config: Config) -> Iterator[Config]:
    """The table's configuration first, then its neighbours."""
    yield config
    parts = sorted({max(1, config.parts // 2), config.parts, config.parts * 2})
    for block_s in (config.block_s // 2, config.block_s, config.block_s * 2):
        for warps in (4, 8):
            for stages in (2, 3, 4, 5):
                for part in parts:
                    candidate = replace(config, block_s=block_s, warps=warps, stages=stages, parts=part)
                    if candidate != config and block_s >= 16:
                        yield candidate


def searching() -> bool:
    """Whether a configuration is on trial."""
    return _trial is not None


def choose(key: Key, call: Callable[[], object]) -> Config:
    """The configuration for one call: what a search found, which runs at the first call of each key.

    Args:
        key: The arguments of `launch.configure`.
        call: Repeats the call that asks; while the search runs, that gets the candidate on trial.
    """
    global _trial
    if _trial is not None:
        return _trial
    if key not in _found:
        times = {}
        try:
            for candidate in candidates(configure(*key)):
                _trial = candidate
                try:
                    times[candidate] = triton.testing.do_bench(call, warmup=5, rep=20, return_mode="median")
                except (triton.OutOfResources, triton.CompilationError):
                    continue
        finally:
            _trial = None
        if not times:
            raise RuntimeError(f"SPF_AUTOTUNE=1: no configuration of {key} runs on this card")
        best = min(times, key=lambda config: times[config])
        print(f"spf_kernels: {key} -> {best} {times[best]:.4f} ms", file=sys.stderr)
        _found[key] = best
    return _found[key]
