"""The encoder in the default training loop, with and without a gradient for the maps."""

from pytest_benchmark.fixture import BenchmarkFixture

from bench import cases, gate, peers, rounds
from bench.cases import Case
from bench.limits import READ, WRITE, Limit
from bench.steps import BACKWARD, FORWARD_BACKWARD, TrainingStep


def _found(step: TrainingStep[peers.Layer], num_maps: int) -> gate.Values:
    """What the last call left, for the maps that are checked."""
    maps = step.leaves[0][0]
    found = {"codes": gate.by_map(step.outputs[0], num_maps)} | gate.parameter_gradients(step.modules[0], num_maps)
    if maps.grad is not None:
        found["maps gradient"] = maps.grad.flatten(2)[:, gate.chosen_maps(num_maps)]
    return found


def _run(benchmark: BenchmarkFixture, case: Case, maps_gradient: bool) -> None:
    count = cases.rotation(case)
    sets = [cases.make_inputs(case, seed, decoder=False) for seed in range(count)]
    steps = {
        name: TrainingStep(
            [provider(s.weight, s.bias) for s in sets],
            [(s.maps,) for s in sets],
            with_gradient=(maps_gradient,),
            upstream=(sets[0].codes_gradient,),
        )
        for name, provider in peers.training_encoders(case).items()
    }
    exact = gate.exact_encoder(sets[0])
    errors = {}
    for name, step in steps.items():
        step(0)
        errors[name] = gate.errors(_found(step, case.num_maps), exact)
    gate.check(errors, case.dtype)

    weights = [s.weight for s in sets]
    limits = (Limit(READ, weights), Limit(WRITE, weights))
    backward = cases.backward_bytes(case, maps_gradient)
    work = {
        BACKWARD: rounds.Work(backward, reads=int(maps_gradient), writes=1),
        FORWARD_BACKWARD: rounds.Work(cases.forward_bytes(case) + backward, reads=1 + int(maps_gradient), writes=1),
    }
    suite = "backward" if maps_gradient else "backward without a gradient for the maps"
    rounds.measure(benchmark, suite, case, steps, limits, count, work, errors)


def test_backward(benchmark: BenchmarkFixture, case: Case) -> None:
    _run(benchmark, case, maps_gradient=True)


def test_backward_without_maps_gradient(benchmark: BenchmarkFixture, paper_size_case: Case) -> None:
    _run(benchmark, paper_size_case, maps_gradient=False)
