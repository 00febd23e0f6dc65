"""csrc alone: its instruction sets, its threads and those of others, children of fork and spawn, recycled buffers."""

import multiprocessing
import os

import pytest
import torch

from spf_kernels import SPFDecoder, SPFFlatten
from spf_kernels.backends import native

from .helpers import ARGUMENTS, DTYPES, ISAS, check_kernel, make_case, needs_native, run

pytestmark = needs_native

NAN = float("nan")
# 6.3 million multiply-adds: above the grain of 2^21 from which threads are used; several tasks a map
SIZES = (18, 3, 37, 3136)


@pytest.mark.usefixtures("isa", "poisoned_outputs")
@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_a_power_of_two_apart_and_streamed_outputs(name, dtype):
    # 16 MiB (8 MiB in bfloat16) of weights: from 8 MiB on `outer` writes past the caches
    check_kernel(native, name, make_case((3, 8, 128, 4096), dtype, dtype))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ARGUMENTS)
def test_same_bits_for_any_number_of_threads(name, dtype):
    case = make_case(SIZES, dtype, dtype, "tanh")
    assert case.maps.numel() * case.weight.shape[1] > 2**21
    torch.set_num_threads(1)
    expected = run(native, name, case)
    for threads in (1, 2, 2, 3, 7):
        torch.set_num_threads(threads)
        for actual, first in zip(run(native, name, case), expected, strict=True):
            assert torch.equal(actual, first)


@pytest.mark.usefixtures("isa")
def test_torchs_matrix_products_do_not_notice():
    # both may use the processor's matrix tiles, whose state belongs to the thread
    case = make_case((18, 2, 37, 70), torch.bfloat16, torch.bfloat16)
    matrix = torch.randn(64, 96, generator=torch.Generator().manual_seed(0)).bfloat16()
    product = matrix @ matrix.T
    expected = {name: run(native, name, case) for name in ARGUMENTS}
    for name in ARGUMENTS:
        for _ in range(2):
            assert torch.equal(matrix @ matrix.T, product)
            for actual, first in zip(run(native, name, case), expected[name], strict=True):
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


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("encode", (40, 128, 129, 4)),
        ("decode", (40, 128, 4, 129)),
        ("outer", (4, 8, 130, 1023)),
        ("reconstruct", (40, 128, 128, 129)),
    ],
)
def test_recycled_buffers_are_overwritten(name, sizes):
    extension = native.extension()
    old = [extension.empty(count, 0) for count in [2**19, 2**20, 3 * 2**19] for _ in range(3)]
    for buffer in old:
        buffer.fill(NAN)
    del old, buffer
    hits = extension.cache_statistics()["hits"]
    check_kernel(native, name, make_case(sizes, activation="tanh" if name != "outer" else "none"))
    assert extension.cache_statistics()["hits"] > hits


def test_large_outputs_can_be_changed_in_place():
    encoder = SPFFlatten(64, 8, 128)
    decoder = SPFDecoder(64, 16, 8)
    # 2 MiB and more come from the cache
    codes = encoder(torch.randn(64, 64, 8, 8)).relu_()
    maps = decoder(torch.randn(64, 512)).relu_()
    (codes.sum() + maps.sum()).backward()
    assert codes.min() == maps.min() == 0
    assert encoder.weight.grad.isfinite().all()


@pytest.mark.parametrize("isa", ISAS)
def test_environment_forces_the_instruction_set(isa, fresh_python):
    code = "from spf_kernels.backends import native; print(native.extension().selected_isa())"
    process = fresh_python(code, SPF_ISA=isa)
    assert process.stdout.strip() == isa, process.stderr


def test_unknown_instruction_set_is_refused(fresh_python):
    process = fresh_python(
        "import torch, spf_kernels; spf_kernels.SPFFlatten(1, 2, 3)(torch.ones(1, 1, 2, 2))", SPF_ISA="mmx"
    )
    assert process.returncode == 1
    assert process.stderr.strip().splitlines()[-1].startswith("ValueError: instruction set 'mmx' is not available here")
    with pytest.raises(ValueError, match=r"'mmx' is not available here; available: .*baseline"):
        native.extension().select_isa("mmx")


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
