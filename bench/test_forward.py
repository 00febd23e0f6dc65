"""The encoder's forward without gradients."""

from pytest_benchmark.fixture import BenchmarkFixture

from bench import cases, gate, peers, rounds
from bench.cases import Case
from bench.limits import READ, WRITE, Limit
from bench.steps import FORWARD, InferenceStep


def test_forward(benchmark: BenchmarkFixture, case: Case) -> None:
    count = cases.rotation(case)
    sets = [cases.make_inputs(case, seed, decoder=False) for seed in range(count)]
    steps = {
        name: InferenceStep([provider(s.weight, s.bias) for s in sets], [(s.maps,) for s in sets])
        for name, provider in peers.inference_encoders().items()
    }
    exact = {"codes": gate.exact_encoder(sets[0])["codes"]}
    errors = {}
    for name, step in steps.items():
        step(0)
        errors[name] = gate.errors({"codes": gate.by_map(step.outputs[0], case.num_maps)}, exact)
    gate.check(errors, case.dtype)

    weights = [s.weight for s in sets]
    limits = (Limit(READ, weights), Limit(WRITE, weights))
    work = {FORWARD: rounds.Work(cases.forward_bytes(case), reads=1, writes=0)}
    rounds.measure(benchmark, "forward", case, steps, limits, count, work, errors)
