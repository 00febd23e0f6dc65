"""Every provider of every operation, on the CPU: what it computes agrees with float64, and its steps can be timed."""

import pytest
import torch

from bench import gate
from bench.cases import Case, make_inputs
from bench.gpu.clock import NoClock, WallClock
from bench.gpu.operations import OPERATIONS
from bench.gpu.operations.base import COMPILED, LOOP_GRAPH, OURS_GRAPH
from bench.gpu.steps import GraphedStep, Step, UnavailableError
from bench.gpu.truth import pick
from bench.peers import OURS

CASE = Case(3, 4, 8, torch.float32, num_maps=9)


def _inputs(count=2):
    return [make_inputs(CASE, seed) for seed in range(count)]


def _providers(operation):
    skipped = (COMPILED, LOOP_GRAPH, OURS_GRAPH)
    return {name: build for name, build in operation.providers(CASE, _inputs()).items() if name not in skipped}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_every_provider_agrees_with_float64_on_every_weight_set(operation):
    sets = _inputs()
    providers = _providers(operation)
    assert OURS in providers
    assert len(providers) > 1
    for name, build in providers.items():
        step = build()
        for index in (1, 0):
            step(index, NoClock())
            errors = gate.errors(step.values(CASE.num_maps), operation.exact(sets[index]))
            assert errors
            assert max(errors.values()) < 1e-5, (name, errors)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_what_is_timed_has_bytes_and_an_order(operation):
    num_bytes = operation.num_bytes(CASE)
    # never less than the weights
    assert min(num_bytes.values()) > CASE.weight_bytes
    for build in _providers(operation).values():
        stamps = build()(0, WallClock())
        assert num_bytes.keys() <= stamps.keys()
        assert all(start <= end for start, end in stamps.values())


@pytest.mark.parametrize("name", [LOOP_GRAPH, OURS_GRAPH])
def test_a_cpu_has_no_graphs_and_says_so(name):
    for operation in OPERATIONS:
        build = operation.providers(CASE, _inputs()).get(name)
        if build is not None:
            with pytest.raises(UnavailableError, match="no CUDA graphs"):
                build()


def test_compilation_is_for_few_sizes():
    elsewhere = Case(12, 16, 32, torch.float32)
    for operation in OPERATIONS:
        assert operation.compiles(Case(12, 64, 128, torch.float32))
        assert not operation.compiles(elsewhere)


def test_pick_takes_the_maps_that_are_compared():
    chosen = gate.chosen_maps(9)
    codes = torch.arange(2 * 9 * 3).view(2, 27)
    assert torch.equal(pick("codes", codes, 9), codes.view(2, 9, 3)[:, chosen])
    assert torch.equal(pick("weight gradient", codes.view(9, 2, 3), 9), codes.view(9, 2, 3)[chosen])
    assert torch.equal(pick("loss", codes[:, 0], 9), codes[:, 0])


class _Recorded(Step):
    """Records what a capture and a replay do."""

    def __init__(self):
        self.calls = []

    def __call__(self, index, clock):
        self.calls.append(index)
        return {"whole": (clock.stamp(), clock.stamp())}

    def values(self, num_maps):
        return {"last": torch.tensor(self.calls[-1] + num_maps)}


class _Nothing:
    def __init__(self, *_arguments):
        self.replayed = 0

    def __enter__(self):
        return self

    def __exit__(self, *_arguments):
        return None

    def wait_stream(self, _other):
        pass

    def replay(self):
        self.replayed += 1


def test_a_graph_is_captured_after_a_warm_up_the_first_set_last(monkeypatch):
    for name in ("Stream", "stream", "graph", "CUDAGraph"):
        monkeypatch.setattr(torch.cuda, name, _Nothing)
    monkeypatch.setattr(torch.cuda, "current_stream", _Nothing)
    inner = _Recorded()
    step = GraphedStep(lambda: inner, 3, "whole", torch.device("cuda"))
    assert inner.calls == [0, 1, 2, 0, 1, 2, 2, 1, 0]
    stamps = step(1, WallClock())
    assert inner.calls[-1] == 0
    assert stamps.keys() == {"whole"}
    assert step.values(5)["last"] == 5
