"""What only a GPU has: streams, graphs, compiled code around the kernels, tf32, and memory for 2^31 weights."""

from itertools import pairwise

import pytest
import torch

from spf_kernels import SPFAutoencoder
from spf_kernels.selection import select

from .helpers import (
    ARGUMENTS,
    BACKEND,
    DEVICE,
    DTYPES,
    Case,
    assert_within_budget,
    check_kernel,
    competitor,
    magnitudes,
    make_case,
    randn,
    run,
    truth,
)

pytestmark = pytest.mark.skipif(
    DEVICE.type != "cuda", reason="needs a GPU, SPF_TEST_BACKEND=triton and SPF_TEST_DEVICE=cuda"
)

# whole tiles of many maps; few maps, whose pixels are split
SIZES = [(12, 32, 128, 4096), (3, 1, 40, 30000)]
kernels = pytest.mark.parametrize("name", ARGUMENTS)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)
sizes_of_both_kinds = pytest.mark.parametrize("sizes", SIZES, ids=str)
C, D, SIDE = 8, 64, 32


@pytest.fixture(autouse=True)
def modes_as_before():
    precision = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(precision)
    torch.cuda.set_sync_debug_mode("default")
    torch.compiler.reset()


def _assert_same(actual, expected):
    for one, two in zip(actual, expected, strict=True):
        assert torch.equal(one, two)


def _overwrite(case, values):
    for mine, its in zip(case, values, strict=True):
        if torch.is_tensor(mine):
            mine.copy_(its)


def _autoencoder():
    torch.manual_seed(0)
    return SPFAutoencoder(C, SIDE, D, "tanh", "sigmoid", detach_target=False, device=DEVICE)


def _gradients(module, maps):
    codes, loss = module(maps)
    return codes, loss, *torch.autograd.grad(codes.square().sum() + loss, [maps, *module.parameters()])


def test_it_is_chosen():
    assert all(select(DEVICE, dtype) is BACKEND for dtype in DTYPES)


@kernels
@dtypes
@sizes_of_both_kinds
@pytest.mark.usefixtures("poisoned_outputs")
def test_numbers(name, dtype, sizes):
    check_kernel(BACKEND, name, make_case(sizes, dtype, dtype, "tanh"))


@kernels
@dtypes
@sizes_of_both_kinds
def test_same_bits_every_time(name, dtype, sizes):
    case = make_case(sizes, dtype, dtype, "tanh")
    for one, two in pairwise(run(BACKEND, name, case) for _ in range(20)):
        _assert_same(one, two)


@kernels
@sizes_of_both_kinds
def test_a_graph_of_a_kernel(name, sizes):
    case, other = (make_case(sizes, activation="tanh", seed=seed) for seed in (0, 1))
    # what compiles must not be captured
    expected = run(BACKEND, name, other)
    run(BACKEND, name, case)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = run(BACKEND, name, case)
    _overwrite(case, other)
    graph.replay()
    _assert_same(captured, expected)


def test_a_graph_of_a_training_step():
    module, maps, other = _autoencoder(), randn(12, C, SIDE, SIDE).requires_grad_(), randn(12, C, SIDE, SIDE, seed=2)
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            _gradients(module, maps)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = _gradients(module, maps)
    with torch.no_grad():
        maps.copy_(other)
    graph.replay()
    _assert_same(captured, _gradients(module, maps))


@kernels
def test_the_current_stream(name):
    case = make_case(SIZES[1], activation="tanh")
    expected = run(BACKEND, name, case)
    late = case.apply(torch.zeros_like)
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        # the inputs arrive long after the kernel has been launched: on another stream it would read zeros
        torch.cuda._sleep(100_000_000)
        _overwrite(late, case)
        results = run(BACKEND, name, late)
    stream.synchronize()
    _assert_same(results, expected)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@kernels
def test_a_device_that_is_not_the_current_one(name):
    current = torch.cuda.current_device()
    other = torch.device("cuda", 1 - current)
    case = make_case(SIZES[1], activation="tanh").apply(lambda tensor: tensor.to(other))
    check_kernel(BACKEND, name, case)
    assert {result.device for result in run(BACKEND, name, case)} == {other}
    assert torch.cuda.current_device() == current


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_compiled(mode):
    module = _autoencoder()
    compiled = torch.compile(module, fullgraph=True, mode=mode)
    for seed in range(4):
        torch.compiler.cudagraph_mark_step_begin()
        maps = randn(12, C, SIDE, SIDE, seed=seed).requires_grad_()
        for actual, expected in zip(_gradients(compiled, maps), _gradients(module, maps), strict=True):
            assert torch.allclose(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(dtype):
    module, maps = _autoencoder(), randn(12, C, SIDE, SIDE).requires_grad_()
    expected = _gradients(module, maps)
    with torch.autocast("cuda", dtype=dtype):
        actual = _gradients(module, maps)
    assert actual[0].dtype == dtype
    for one, two in zip(actual, expected, strict=True):
        assert (one.float() - two).norm() <= 0.02 * two.norm()
    assert all(gradient.dtype == torch.float32 for gradient in actual[1:])


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_host_never_waits(channels_last):
    module, maps = _autoencoder(), randn(12, C, SIDE, SIDE)
    maps = maps.to(memory_format=torch.channels_last) if channels_last else maps
    maps.requires_grad_()
    _gradients(module, maps)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    codes, loss, *gradients = _gradients(module, maps)
    torch.cuda.set_sync_debug_mode("default")
    assert all(result.isfinite().all() for result in (codes, loss, *gradients))


@pytest.mark.skipif(torch.version.hip is not None, reason="AMD's cards have no tf32 here")
@kernels
@sizes_of_both_kinds
def test_high_precision_is_tf32(name, sizes):
    case = make_case(sizes)
    precise = run(BACKEND, name, case)
    torch.set_float32_matmul_precision("high")
    fast = run(BACKEND, name, case)
    errors = []
    for low, high, exact, magnitude in zip(fast, precise, truth(name, case), magnitudes(name, case), strict=True):
        errors.append(((low.double() - exact).norm(), (high.double() - exact).norm()))
        # an operand loses less than 2^-10 of itself; a product has two, and `reconstruct` two products
        assert errors[-1][0] <= 2**-8 * magnitude.norm()
    low, high = errors[-1]
    assert low > 20 * high


def test_more_than_2_31_weights():
    free = torch.cuda.mem_get_info()[0]
    if free < 16 << 30:
        pytest.skip(f"needs 16 GiB of GPU memory, {free >> 30} are free")
    maps, dtype = 2**16 + 1, torch.bfloat16
    generator = torch.Generator(DEVICE).manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, dtype=dtype, device=DEVICE, generator=generator)

    case = Case(draw(2, maps, 256), draw(2, maps, 128), draw(maps, 256, 128).div_(16), None, None, "tanh")
    for name in ARGUMENTS:
        results = run(BACKEND, name, case)
        for c in (0, maps - 1):
            one = slice(c, c + 1)
            part = case._replace(codes=case.codes[:, one], maps=case.maps[:, one], weight=case.weight[one])
            expected = zip(competitor(name, part), truth(name, part), magnitudes(name, part), strict=True)
            for result, others in zip(results, expected, strict=True):
                # the losses are sums over all maps
                if result.dim() > 1:
                    assert_within_budget(result[one] if name == "outer" else result[:, one], *others)
        del results
