import itertools

from bench.gpu.rounds import CALLS, interleave, summarise
from bench.peers import OURS


class _Clock:
    """Time passes only where a step says so."""

    def __init__(self):
        self.now = 0.0

    def stamp(self):
        return self.now

    def seconds(self, start, end):
        return end - start

    def synchronize(self):
        pass


def _step(clock, seconds, seen):
    """Takes the next of `seconds` at each call; writes down the weight sets."""

    def step(index, used):
        seen.append(index)
        start = used.stamp()
        clock.now += next(seconds)
        return {"whole": (start, used.stamp()), "part": (start, start)}

    return step


def test_a_round_gives_everyone_one_turn_and_its_first_call_is_not_counted():
    clock, order, seen = _Clock(), [], {"a": [], "b": []}
    # the first call of each turn is slow
    slow_first = itertools.cycle([100.0, 1.0, 2.0, 3.0])
    steps = {"a": _step(clock, slow_first, seen["a"]), "b": _step(clock, itertools.repeat(5.0), seen["b"])}
    recorded = interleave(steps, 3, lambda: order.append("lead"), clock, seconds=0, rounds=2)
    assert recorded["a"] == {"whole": [2.0, 2.0], "part": [0.0, 0.0]}
    assert recorded["b"]["whole"] == [5.0, 5.0]
    assert len(order) == 4
    assert len(seen["a"]) == len(seen["b"]) == 2 * CALLS
    assert set(seen["a"]) == {0, 1, 2}


def test_without_a_number_the_rounds_fit_the_time_and_the_warm_up_is_forgotten():
    clock = _Clock()
    recorded = interleave({"a": _step(clock, itertools.repeat(1.0), [])}, 1, lambda: None, clock, seconds=0.0)
    assert len(recorded["a"]["whole"]) == 5


def test_the_summary_counts_bytes_and_compares_within_a_round():
    recorded = {"peer": {"whole": [4.0, 30.0, 6.0], "part": [1.0] * 3}, OURS: {"whole": [2.0, 10.0, 2.0]}}
    peer, ours = summarise(recorded, {"whole": 1_000_000_000}, copy_rate=1e9)
    assert (peer["provider"], peer["span"], peer["rounds"]) == ("peer", "whole", 3)
    assert peer["median_ms"] == 6000
    assert peer["min_ms"] == 4000
    assert peer["ours_is_faster_by"] == 3.0
    assert ours["gb_per_s"] == 0.5
    assert ours["share_of_copy"] == 0.5
    assert "ours_is_faster_by" not in ours


def test_where_ours_has_no_such_span_there_is_no_ratio():
    recorded = {"peer": {"part": [1.0]}, OURS: {"whole": [2.0]}}
    rows = summarise(recorded, {"whole": 1, "part": 1}, copy_rate=1.0)
    assert [("ours_is_faster_by" in row) for row in rows] == [False, False]
