"""The same bits every time, whatever the threads; and children of fork and spawn compute at all."""

import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from spf_kernels.backends import native

from .helpers import ARGUMENTS, DTYPES, ISAS, make_case, needs_native, run

pytestmark = needs_native

# 3.1 million multiply-adds: above the grain of 2^21 from which threads are used; several tasks a map
SIZES = (9, 3, 37, 3136)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ARGUMENTS)
def test_same_bits_for_any_number_of_threads(name, dtype, isa):
    native.extension().select_isa(isa)
    case = make_case(SIZES, dtype, dtype, "tanh")
    assert case.maps.numel() * case.weight.shape[1] > 2**21
    torch.set_num_threads(1)
    expected = run(native, name, case)
    for threads in (1, 2, 2, 3, 7):
        torch.set_num_threads(threads)
        for actual, first in zip(run(native, name, case), expected, strict=True):
            assert torch.equal(actual, first)


@pytest.mark.parametrize("maps", [1, 5, 70])
def test_same_bits_for_few_and_many_maps(maps):
    case = make_case((5, maps, 64, 2**21 // (64 * maps) // 2), activation="sigmoid")
    for name in ARGUMENTS:
        torch.set_num_threads(1)
        expected = run(native, name, case)
        torch.set_num_threads(2)
        for actual, first in zip(run(native, name, case), expected, strict=True):
            assert torch.equal(actual, first)


def test_a_samples_codes_do_not_depend_on_their_place_in_the_batch():
    # what lets a cache of results, or a resumed run, be compared by bits
    case = make_case((24, 2, 33, 500), activation="tanh")
    shifted = case._replace(maps=case.maps.roll(12, 0), codes=case.codes.roll(12, 0))
    for name in ("encode", "decode", "reconstruct"):
        for actual, expected in zip(run(native, name, shifted), run(native, name, case), strict=True):
            assert torch.equal(actual, expected.roll(12, 0))


def test_calls_from_many_threads_do_not_disturb_each_other():
    cases = [make_case((5 + seed, 3, 21, 300 + seed), activation="tanh", seed=seed) for seed in range(8)]
    expected = [run(native, name, case) for case in cases for name in ARGUMENTS]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            futures = [pool.submit(run, native, name, case) for case in cases for name in ARGUMENTS]
            for future, results in zip(futures, expected, strict=True):
                for actual, first in zip(future.result(), results, strict=True):
                    assert torch.equal(actual, first)


CHILD = """
import faulthandler
import multiprocessing
import os
import torch
import spf_kernels

# made before a fork: PyTorch's own operators on many elements hang in a forked child, as do all that use threads
torch.set_num_threads(2)
generator = torch.Generator().manual_seed(0)
maps = torch.randn(9, 3, 56, 56, generator=generator)
weight = (torch.randn(3, 37, 3136, generator=generator) / 56).requires_grad_()

def compute():
    codes = spf_kernels.functional.spf_flatten(maps, weight, None, "tanh")
    loss = spf_kernels.functional.spf_reconstruction_loss(codes, maps, weight.detach())
    (gradient,) = torch.autograd.grad(loss, weight)
    return codes.detach().numpy().tobytes() + gradient.numpy().tobytes()

def child(queue):
    faulthandler.dump_traceback_later(20, exit=True)
    queue.put(compute())
    faulthandler.cancel_dump_traceback_later()

if __name__ == "__main__":
    expected = compute()
    context = multiprocessing.get_context(METHOD)
    queue = context.Queue()
    process = context.Process(target=child, args=(queue,), daemon=True)
    process.start()
    result = queue.get(timeout=60)
    process.join(10)
    assert process.exitcode == 0, process.exitcode
    assert result == expected, "the child computed something else"
    assert compute() == expected, "the parent computes something else after the fork"
    print("same")
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_compute_the_same(method, fresh_python, tmp_path):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    # spawn imports the script again, so it must be a file
    script = tmp_path / "parent.py"
    script.write_text(CHILD.replace("METHOD", repr(method)))
    process = fresh_python(f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')", timeout=120)
    assert process.stdout.strip() == "same", process.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork_before_the_first_kernel_but_after_torchs_threads(fresh_python):
    result = fresh_python(
        """
import os, torch, spf_kernels
torch.set_num_threads(2)
layer = spf_kernels.SPFFlatten(64, 32, 64)
maps = torch.randn(8, 64, 32, 32)
torch.ones(2000, 2000) @ torch.ones(2000, 2000)
child = os.fork()
if child == 0:
    with torch.no_grad():
        codes = layer(maps)
    os._exit(0 if codes.shape == (8, 4096) else 1)
_, status = os.waitpid(child, 0)
raise SystemExit(os.waitstatus_to_exitcode(status))
"""
    )
    assert result.returncode == 0, result.stderr
