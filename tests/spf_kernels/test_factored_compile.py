"""grad_mode="factored" under torch.compile: the same gradients, the same hooks, no dense gradient."""

import pytest
import torch

from spf_kernels import FactoredGrad, SPFFlatten, ops

from .factored_helpers import SIDE, C, D, S, as_dense, make_autoencoder, make_maps, materialised, total_loss


@pytest.fixture(autouse=True)
def no_compiled_code_left():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def _compile(function=total_loss, **options):
    return torch.compile(function, **{"fullgraph": True, "backend": "aot_eager", **options})


def _assert_same_gradients(module, dense):
    for ours, theirs in zip(module.parameters(), dense.parameters(), strict=True):
        torch.testing.assert_close(as_dense(ours.grad), theirs.grad, rtol=1e-4, atol=1e-6)


def _train(compiled, batches, optimizer_of=torch.optim.SGD, function=total_loss):
    """Steps with the compiled loss, each compared with the dense eager one's."""
    module, dense = make_autoencoder("factored"), make_autoencoder("dense")
    optimizers = [optimizer_of(each.parameters(), lr=0.1) for each in (module, dense)]
    for seed, batch in enumerate(batches):
        for optimizer in optimizers:
            optimizer.zero_grad()
        compiled(module, make_maps(batch, seed)).backward()
        function(dense, make_maps(batch, seed)).backward()
        assert isinstance(module.encoder.weight.grad, FactoredGrad)
        assert isinstance(module.decoder.weight.grad, FactoredGrad)
        assert type(module.encoder.bias.grad) is torch.Tensor
        _assert_same_gradients(module, dense)
        for optimizer in optimizers:
            optimizer.step()
    return module


def test_static_shapes():
    _train(_compile(dynamic=False), [3, 3])
    # by the optimizer, twice for two weights
    assert materialised() == 4


def test_dynamic_batch_compiles_once():
    compiled = _compile(dynamic=True)
    _train(compiled, [6])
    with torch._dynamo.config.patch(error_on_recompile=True):
        _train(compiled, [9, 5, 13])


def test_inductor():
    module = make_autoencoder("factored")
    _compile(backend="inductor")(module, make_maps(3)).backward()
    # the placeholder came through without taking memory
    assert module.encoder.weight.grad.rest is None
    compiled = _compile(backend="inductor", dynamic=True)
    _train(compiled, [6, 9])
    # the weight once more, in the same graph: the compiler adds to the placeholder
    function = lambda module, maps: total_loss(module, maps) + 0.01 * module.encoder.weight.square().sum()  # noqa: E731
    _train(_compile(function, backend="inductor"), [6, 6], function=function)


def test_factors_are_copies():
    layer = SPFFlatten(C, SIDE, D, grad_mode="factored")
    maps = make_maps(3)
    _compile(lambda maps: layer(maps).square().sum())(maps).backward()
    expected = layer.weight.grad.dense()
    maps.zero_()
    assert torch.equal(layer.weight.grad.dense(), expected)


def test_accumulation_and_compilation_with_a_factored_gradient_present():
    module, dense = make_autoencoder("factored"), make_autoencoder("dense")
    compiled = _compile(dynamic=False)
    total_loss(module, make_maps(1)).backward()
    # compiled anew for the second size, too
    for batch in (2, 3):
        compiled(module, make_maps(batch)).backward()
    for batch in (1, 2, 3):
        total_loss(dense, make_maps(batch)).backward()
    assert module.encoder.weight.grad.left.shape[0] == 6
    _assert_same_gradients(module, dense)
    assert materialised() == 0


@pytest.mark.parametrize("other", [False, True], ids=["same maps", "other maps"])
def test_a_weight_used_twice_in_a_graph(other):
    def twice(module, maps):
        return total_loss(module, maps) + total_loss(module, maps * 2 if other else maps)

    _train(_compile(twice), [2, 2], function=twice)


def test_a_dense_term_in_the_graph():
    def function(module, maps):
        return total_loss(module, maps) + 0.01 * module.encoder.weight.square().sum()

    module = _train(_compile(function), [2, 2], function=function)
    assert module.encoder.weight.grad.rest is not None


def test_a_dense_term_outside_of_the_graph():
    module, dense = make_autoencoder("factored"), make_autoencoder("dense")
    for each, loss in ((module, _compile()), (dense, total_loss)):
        (loss(each, make_maps(2)) + 0.01 * each.encoder.weight.square().sum()).backward()
    _assert_same_gradients(module, dense)


def test_one_graph_for_two_modules():
    first, second, dense = make_autoencoder("factored"), make_autoencoder("factored"), make_autoencoder("dense")
    compiled = _compile(lambda module, maps: total_loss(module, maps))
    for module in (first, second):
        compiled(module, make_maps(2)).backward()
    total_loss(dense, make_maps(2)).backward()
    _assert_same_gradients(first, dense)
    _assert_same_gradients(second, dense)


def test_hooks_run_once_and_in_order():
    module, dense = make_autoencoder("factored"), make_autoencoder("dense")
    events = []
    for each in (module, dense):
        weight = each.encoder.weight
        weight.register_hook(lambda gradient: events.append(("first", as_dense(gradient).norm())) or gradient * 2)
        weight.register_hook(lambda gradient: events.append(("second", as_dense(gradient).norm())))
        weight.register_post_accumulate_grad_hook(lambda weight: events.append(("post", as_dense(weight.grad).norm())))
    compiled = _compile()
    for _ in range(2):
        compiled(module, make_maps(2)).backward()
    ours, events = list(events), []
    for _ in range(2):
        total_loss(dense, make_maps(2)).backward()
    assert [name for name, _ in ours] == ["first", "second", "post"] * 2
    for (_, one), (_, two) in zip(ours, events, strict=True):
        assert torch.allclose(one, two, rtol=1e-4)
    _assert_same_gradients(module, dense)


def test_autograd_grad():
    module, dense = make_autoencoder("factored"), make_autoencoder("dense")
    (gradient,) = torch.autograd.grad(_compile()(module, make_maps(2)), module.encoder.weight)
    (expected,) = torch.autograd.grad(total_loss(dense, make_maps(2)), dense.encoder.weight)
    assert isinstance(gradient, FactoredGrad)
    assert module.encoder.weight.grad is None
    torch.testing.assert_close(gradient.dense(), expected, rtol=1e-4, atol=1e-6)


def test_a_gradient_that_nobody_wanted_is_not_delivered_later():
    module, dense = make_autoencoder("factored"), make_autoencoder("dense")
    compiled = _compile()
    # the graph's backward runs whole, though only a bias is asked for
    torch.autograd.grad(compiled(module, make_maps(2)), module.encoder.bias)
    for each in (module, dense):
        each.encoder.weight.square().sum().backward()
    assert type(module.encoder.weight.grad) is torch.Tensor
    assert torch.equal(module.encoder.weight.grad, dense.encoder.weight.grad)
    torch.autograd.grad(compiled(module, make_maps(3)), module.encoder.bias)
    compiled(module, make_maps(2)).backward()
    total_loss(dense, make_maps(2)).backward()
    torch.testing.assert_close(module.encoder.weight.grad, dense.encoder.weight.grad, rtol=1e-4, atol=1e-6)


def test_a_weight_computed_in_the_graph_gets_a_dense_gradient():
    layers = [SPFFlatten(C, SIDE, D, grad_mode=mode) for mode in ("factored", "dense")]
    layers[1].load_state_dict(layers[0].state_dict())
    for layer in layers:
        torch.nn.utils.parametrizations.weight_norm(layer)
    _compile(lambda maps: layers[0](maps).square().sum())(make_maps(2)).backward()
    layers[1](make_maps(2)).square().sum().backward()
    for ours, theirs in zip(layers[0].parameters(), layers[1].parameters(), strict=True):
        assert type(ours.grad) is torch.Tensor
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)


def test_a_frozen_weight():
    module = make_autoencoder("factored")
    module.encoder.weight.requires_grad_(False)
    _compile()(module, make_maps(2)).backward()
    assert module.encoder.weight.grad is None
    assert isinstance(module.decoder.weight.grad, FactoredGrad)


def test_a_weight_that_is_no_leaf_is_refused_when_the_backward_runs():
    left, right = torch.zeros(2, C, D), torch.zeros(2, C, S)
    for weight in (torch.zeros(C, D, S), torch.zeros(C, D, S, requires_grad=True) * 2):
        with pytest.raises(RuntimeError, match=r"no leaf requiring a gradient.*use grad_mode='dense'"):
            ops.sink(left, right, weight)


def test_schema_and_fake_of_the_placeholder():
    with torch._subclasses.FakeTensorMode() as mode:
        weight = mode.from_tensor(torch.zeros(C, D, S))
        placeholder = ops.sink(weight.new_zeros(2, C, D), weight.new_zeros(2, C, S), weight)
    assert (placeholder.shape, placeholder.stride()) == ((C, D, S), (0, 0, 0))


def test_export():
    module = make_autoencoder("factored").eval()
    program = torch.export.export(module, (make_maps(3),), strict=True)
    ours, theirs = program.module()(make_maps(3)), module(make_maps(3))
    torch.testing.assert_close(ours.loss, theirs.loss)
    exported = program.module()
    total_loss(exported, make_maps(3)).backward()
    total_loss(module, make_maps(3)).backward()
    gradients = {name: parameter.grad for name, parameter in exported.named_parameters()}
    torch.testing.assert_close(as_dense(gradients["encoder.weight"]), module.encoder.weight.grad.dense())
