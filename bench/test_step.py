"""The whole training step of an auto-encoder (encode, decode, loss, backward, update), and its memory."""

import sys

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench import cases, gate, memory, peers, rounds
from bench.cases import Case, Inputs
from bench.limits import READ, WRITE, Limit
from bench.optimizers import BF16_BYTES, LEARNING_RATE, OURS_BF16_STATE, TRAINERS, Trainer
from bench.steps import STEP, UpdatingStep

_GATE_STEPS = 2
_MAIN_SECONDS = 24.0


def _trainers(case: Case, inputs: Inputs) -> dict[str, Trainer[peers.Autoencoder]]:
    """By provider, ours last; the slowest in the main case only."""
    everywhere = case.is_main or case.num_maps < 128
    return {name: build(inputs) for name, build in TRAINERS.items() if everywhere or name != peers.BADDBMM}


def _found(trainer: Trainer[peers.Autoencoder], num_maps: int) -> gate.Values:
    encoder, decoder = trainer.module.encoder, trainer.module.decoder
    found = gate.optimized("encoder ", encoder, trainer.optimizer, num_maps)
    return found | gate.optimized("decoder ", decoder, trainer.optimizer, num_maps)


def test_step(benchmark: BenchmarkFixture, training_case: Case) -> None:
    case = training_case
    inputs = cases.make_inputs(case, seed=0)
    trainers = _trainers(case, inputs)
    upstream = (inputs.codes_gradient, None)
    steps = {name: UpdatingStep(t.module, (inputs.maps,), upstream, t.update) for name, t in trainers.items()}

    exact = gate.exact_training(inputs, LEARNING_RATE, _GATE_STEPS)
    shared = (inputs.weight, inputs.bias, inputs.decoder_weight, inputs.decoder_bias)
    initial = [tensor.clone() for tensor in shared]
    errors = {}
    for name, step in steps.items():
        # the one before has changed them
        for tensor, values in zip(shared, initial, strict=True):
            tensor.copy_(values)
        for _ in range(_GATE_STEPS):
            step(0)
        errors[name] = gate.errors(_found(trainers[name], case.num_maps), exact)
    del initial
    gate.check_optimized(errors, OURS_BF16_STATE)

    limits = (Limit(READ, [inputs.weight]), Limit(WRITE, [inputs.weight]))
    # encoder: forward and maps' gradient; decoder: one pass; update: three tensors of each of two weights
    work = {STEP: rounds.Work(cases.training_bytes(case), reads=9, writes=6)}
    narrow = {STEP: rounds.Work(cases.training_bytes(case, BF16_BYTES), reads=7, writes=4)}
    seconds = _MAIN_SECONDS if case.is_main else None
    own_work = {OURS_BF16_STATE: narrow}
    rounds.measure(benchmark, "training step", case, steps, limits, 1, work, errors, own_work, seconds)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads VmHWM from /proc/self/status")
def test_step_memory(benchmark: BenchmarkFixture, quick: bool) -> None:
    rounds.measure_memory(benchmark, cases.main_case(quick), memory.TRAINING)
