"""torch.compile and torch.export: no graph breaks, eager's numbers, any batch size."""

import pytest
import torch

from spf_kernels import SPFAutoencoder, SPFFlatten
from spf_kernels.functional import spf_flatten, spf_reconstruct, spf_reconstruction_loss

from .helpers import DEVICE, make_case, randn

C, D, H, W = 3, 4, 5, 7


@pytest.fixture(autouse=True)
def no_compiled_code_left():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def _autoencoder(reduction="mean"):
    torch.manual_seed(0)
    return SPFAutoencoder(C, (H, W), D, "tanh", "sigmoid", reduction=reduction, detach_target=False, device=DEVICE)


def _maps(batch, dtype=torch.float32):
    return randn(batch, C, H, W, dtype=dtype, seed=batch).requires_grad_()


def _gradients(module, maps):
    codes, loss = module(maps)
    parameters = list(module.parameters())
    return codes, loss, *torch.autograd.grad(codes.square().sum() + loss.sum(), [maps, *parameters])


def _assert_same(actual, expected):
    for ours, theirs in zip(actual, expected, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-6)
        assert ours.dtype == theirs.dtype


def _assert_compiles(compiled, module, batches):
    for batch in batches:
        maps = _maps(batch)
        _assert_same(_gradients(compiled, maps), _gradients(module, maps))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_static_shapes(reduction):
    module = _autoencoder(reduction)
    _assert_compiles(torch.compile(module, fullgraph=True, dynamic=False, backend="aot_eager"), module, [3])


def test_dynamic_batch_compiles_once():
    module = _autoencoder()
    compiled = torch.compile(module, fullgraph=True, dynamic=True, backend="aot_eager")
    # not a size that something else has: the compiler would take the two for one
    _assert_compiles(compiled, module, [6])
    with torch._dynamo.config.patch(error_on_recompile=True):
        _assert_compiles(compiled, module, [2, 5, 13])


def _network(backend):
    """Flattening between its neighbours of a network: what is contiguous there is up to the compiler."""
    torch.manual_seed(0)
    convolution, module = torch.nn.Conv2d(2, C, 1, device=DEVICE), _autoencoder()

    def forward(images):
        codes, loss = module(convolution(images))
        return torch.cat([codes, images.mean((2, 3))], 1).square().sum() + loss

    return (
        forward,
        torch.compile(forward, fullgraph=True, backend=backend),
        [*module.parameters(), *convolution.parameters()],
    )


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_layouts(memory_format):
    forward, compiled, parameters = _network("aot_eager")
    images = randn(3, 2, H, W).to(memory_format=memory_format)
    _assert_same(torch.autograd.grad(compiled(images), parameters), torch.autograd.grad(forward(images), parameters))


def test_inductor():
    forward, compiled, parameters = _network("inductor")
    for batch in (6, 9):
        images = randn(batch, 2, H, W).to(memory_format=torch.channels_last)
        torch._dynamo.mark_dynamic(images, 0)
        _assert_same(
            torch.autograd.grad(compiled(images), parameters), torch.autograd.grad(forward(images), parameters)
        )


def test_functions_without_bias():
    case = make_case((3, C, D, H * W), bias=False)

    def function(maps, weight):
        codes = spf_flatten(maps, weight, None, "sigmoid")
        return spf_reconstruct(codes, weight).mean() + spf_reconstruction_loss(codes, maps, weight)

    weight = case.weight.requires_grad_()
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    (actual,) = torch.autograd.grad(compiled(case.maps, weight), weight)
    (expected,) = torch.autograd.grad(function(case.maps, weight), weight)
    _assert_same([actual], [expected])


def test_autocast():
    module = _autoencoder()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    maps = _maps(3)
    with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
        codes, loss = compiled(maps)
        expected = module(maps)
    assert codes.dtype == torch.bfloat16
    _assert_same([codes, loss], expected)


def test_errors_are_raised_while_tracing():
    compiled = torch.compile(SPFFlatten(C, (H, W), D, device=DEVICE), fullgraph=True, backend="aot_eager")
    with pytest.raises(Exception, match=r"maps must be \(5, 7\) in height and width, got \(7, 5\)"):
        compiled(torch.zeros(2, C, W, H, device=DEVICE))


def test_first_ever_call_can_be_a_compiled_one(fresh_python):
    code = f"""
import torch
import spf_kernels
layer = spf_kernels.SPFFlatten(2, 4, 3, "relu", device="{DEVICE}")
maps = torch.randn(5, 2, 4, 4, device="{DEVICE}", requires_grad=True)
codes = torch.compile(layer, fullgraph=True, backend="aot_eager")(maps)
codes.sum().backward()
compiled, maps.grad = maps.grad, None
expected = layer(maps)
expected.sum().backward()
assert torch.equal(codes, expected) and torch.equal(compiled, maps.grad)
print("same")
"""
    process = fresh_python(code)
    assert process.stdout.strip() == "same", process.stderr


def test_compiled_gradients_are_not_overwritten_by_the_next_step():
    # large enough for a recycled buffer: a library that kept a reference would hand it out again
    layer = SPFFlatten(8, 64, 32, device=DEVICE)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    kept, copies = [], []
    for step in range(3):
        (gradient,) = torch.autograd.grad(compiled(randn(2, 8, 64, 64, seed=step)).sum(), layer.weight)
        kept.append(gradient)
        copies.append(gradient.clone())
    for gradient, copy in zip(kept, copies, strict=True):
        assert torch.equal(gradient, copy)
    assert len({gradient.data_ptr() for gradient in kept}) == 3


def test_export_with_a_dynamic_batch():
    module = _autoencoder().eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(module, (_maps(3).detach(),), dynamic_shapes=({0: batch},), strict=True)
    called = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert {"spf_kernels.encode.default", "spf_kernels.reconstruct.default"} <= called
    for size in (1, 3, 17):
        maps = _maps(size).detach()
        _assert_same(program.module()(maps), module(maps))


def test_exported_program_survives_a_file(tmp_path):
    layer = SPFFlatten(C, (H, W), D, "relu", device=DEVICE).eval()
    maps = _maps(3).detach()
    torch.export.save(torch.export.export(layer, (maps,)), tmp_path / "layer.pt2")
    assert torch.equal(torch.export.load(tmp_path / "layer.pt2").module()(maps), layer(maps))
