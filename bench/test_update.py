"""The optimizer's step alone, on one weight: from the gradient, or from its factors."""

from pytest_benchmark.fixture import BenchmarkFixture

from bench import cases, gate, rounds
from bench.cases import Case
from bench.limits import READ, WRITE, Limit
from bench.optimizers import BF16_BYTES, LEARNING_RATE, OURS_BF16_STATE, UPDATERS, UpdateInputs
from bench.steps import UPDATE, UpdateStep
from spf_kernels import ops

_GATE_STEPS = 2


def _inputs(case: Case) -> UpdateInputs:
    """The factors of an encoder's gradient."""
    made = cases.make_inputs(case, seed=0, decoder=False)
    left = made.codes_gradient.unflatten(1, (case.num_maps, case.code_size))
    right = made.maps.flatten(2)
    return UpdateInputs(made.weight, made.bias, left, right, ops.outer(left, right, case.dtype))


def test_update(benchmark: BenchmarkFixture, training_case: Case) -> None:
    case = training_case
    inputs = _inputs(case)
    trainers = {name: build(inputs) for name, build in UPDATERS.items()}
    steps = {name: UpdateStep([trainer.update]) for name, trainer in trainers.items()}

    exact = gate.exact_update(inputs.weight, inputs.left, inputs.right, LEARNING_RATE, _GATE_STEPS)
    initial = inputs.weight.clone()
    errors = {}
    for name, step in steps.items():
        # the one before has changed it
        inputs.weight.copy_(initial)
        for _ in range(_GATE_STEPS):
            step(0)
        found = gate.optimized("", trainers[name].module, trainers[name].optimizer, case.num_maps)
        errors[name] = gate.errors(found, exact)
    del initial
    gate.check_optimized(errors, OURS_BF16_STATE)

    limits = (Limit(READ, [inputs.weight]), Limit(WRITE, [inputs.weight]))
    # weight, momentum, variance
    work = {UPDATE: rounds.Work(cases.update_bytes(case), reads=3, writes=3)}
    narrow = {UPDATE: rounds.Work(cases.update_bytes(case, BF16_BYTES), reads=2, writes=2)}
    own_work = {OURS_BF16_STATE: narrow}
    rounds.measure(benchmark, "update", case, steps, limits, 1, work, errors, own_work)
