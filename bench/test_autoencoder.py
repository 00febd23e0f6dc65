"""Decoder with its loss and gradients, the whole auto-encoder step, and the memory of that step."""

import sys

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench import cases, gate, memory, peers, rounds
from bench.cases import Case
from bench.limits import READ, WRITE, Limit
from bench.steps import FORWARD_BACKWARD, KernelStep, TrainingStep


def _decoder_steps(case: Case, sets: list[cases.Inputs]) -> dict[str, TrainingStep[peers.Layer]]:
    inputs = [(s.codes, s.maps) for s in sets]

    def modules(provider: type[peers.Layer]) -> list[peers.Layer]:
        return [provider(s.decoder_weight, s.decoder_bias) for s in sets]

    steps: dict[str, TrainingStep[peers.Layer]] = {
        peers.KERNELS_ALONE: KernelStep(modules(peers.KernelsAlone), inputs, (False, False), ())
    }
    for name, provider in peers.decoders(case).items():
        steps[name] = TrainingStep(modules(provider), inputs, (True, False), (None,))
    return steps


def _decoder_found(step: TrainingStep[peers.Layer], num_maps: int) -> gate.Values:
    module, codes = step.modules[0], step.leaves[0][0]
    codes_gradient = module.codes_gradient if isinstance(module, peers.KernelsAlone) else codes.grad
    if codes_gradient is None:
        raise AssertionError("the codes must have a gradient, got none")
    return {
        "loss": step.outputs[0],
        "codes gradient": gate.by_map(codes_gradient, num_maps),
        **gate.parameter_gradients(module, num_maps),
    }


def test_decoder_loss(benchmark: BenchmarkFixture, case: Case) -> None:
    count = cases.rotation(case)
    sets = [cases.make_inputs(case, seed, encoder=False) for seed in range(count)]
    steps = _decoder_steps(case, sets)
    exact = gate.exact_decoder(sets[0])
    errors = {}
    for name, step in steps.items():
        step(0)
        errors[name] = gate.errors(_decoder_found(step, case.num_maps), exact)
    gate.check(errors, case.dtype)

    weights = [s.decoder_weight for s in sets]
    limits = (Limit(READ, weights), Limit(WRITE, weights))
    # the loss and every gradient in one pass: nothing of the weights' size has to be read twice
    work = {FORWARD_BACKWARD: rounds.Work(cases.decoder_bytes(case), reads=1, writes=1)}
    rounds.measure(benchmark, "decoder, loss and gradients", case, steps, limits, count, work, errors)


def _step_found(step: TrainingStep[peers.Autoencoder], num_maps: int) -> gate.Values:
    module, maps = step.modules[0], step.leaves[0][0]
    if maps.grad is None:
        raise AssertionError("the maps must have a gradient, got none")
    encoder = gate.parameter_gradients(module.encoder, num_maps)
    decoder = gate.parameter_gradients(module.decoder, num_maps)
    return {
        "codes": gate.by_map(step.outputs[0], num_maps),
        "maps gradient": maps.grad.flatten(2)[:, gate.chosen_maps(num_maps)],
        "encoder weight gradient": encoder["weight gradient"],
        "decoder weight gradient": decoder["weight gradient"],
    }


def test_autoencoder_step(benchmark: BenchmarkFixture, case: Case) -> None:
    count = cases.rotation(case)
    sets = [cases.make_inputs(case, seed) for seed in range(count)]
    steps = {
        name: TrainingStep(
            [build(s.weight, s.bias, s.decoder_weight, s.decoder_bias) for s in sets],
            [(s.maps,) for s in sets],
            with_gradient=(True,),
            upstream=(sets[0].codes_gradient, None),
        )
        for name, build in peers.AUTOENCODERS.items()
    }
    exact = gate.exact_autoencoder(sets[0])
    errors = {}
    for name, step in steps.items():
        step(0)
        errors[name] = gate.errors(_step_found(step, case.num_maps), exact)
    gate.check(errors, case.dtype)

    weights = [s.weight for s in sets]
    limits = (Limit(READ, weights), Limit(WRITE, weights))
    # encoder: forward, gradients of maps and weight; decoder: one pass
    moved = cases.forward_bytes(case) + cases.backward_bytes(case, True) + cases.decoder_bytes(case)
    work = {FORWARD_BACKWARD: rounds.Work(moved, reads=3, writes=2)}
    rounds.measure(benchmark, "auto-encoder step", case, steps, limits, count, work, errors)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads VmHWM from /proc/self/status")
def test_memory(benchmark: BenchmarkFixture, quick: bool) -> None:
    rounds.measure_memory(benchmark, cases.main_case(quick), memory.GRADIENTS)
