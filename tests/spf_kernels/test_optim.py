"""`spf_kernels.optim.NAdam` against `torch.optim.NAdam`: numbers, gradients of all kinds, and what it refuses."""

import pytest
import torch
from torch import nn

import spf_kernels
from spf_kernels import ops
from spf_kernels.backends import native
from spf_kernels.factors import FactoredGrad
from spf_kernels.optim import NAdam

from .helpers import assert_within_budget, needs_kernels, randn
from .optim_helpers import BF16, F32, F64, SHAPE, make_gradients, make_parameter, options, train

pytestmark = needs_kernels


@options
@pytest.mark.parametrize("form", ["dense", "factored"])
def test_a_thousand_steps_against_float64(form, options):
    start = randn(*SHAPE)
    lefts, rights = randn(1000, 2, *SHAPE[:2], seed=1), randn(1000, 2, SHAPE[0], SHAPE[2], seed=2)
    exact_gradients = torch.einsum("nbcd,nbcs->ncds", lefts.double(), rights.double())
    gradients = exact_gradients.float()
    if form == "dense":
        exact_gradients = gradients.double()
    exact = train(torch.optim.NAdam([nn.Parameter(start.double())], **options), exact_gradients)
    rival = train(torch.optim.NAdam([nn.Parameter(start.clone())], **options), gradients)
    ours = gradients if form == "dense" else [(left, right, F32) for left, right in zip(lefts, rights, strict=True)]
    actual = train(NAdam([nn.Parameter(start.clone())], **options), ours)
    assert_within_budget(actual, rival, exact, exact.abs())
    assert (exact - start).norm() > 20 * (exact - actual).norm()


@pytest.mark.parametrize("dtype", [F64, BF16, torch.float16, torch.complex64], ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (0,), (7, 5), (2, 3, 4, 5, 6)], ids=str)
def test_dtypes_and_shapes(dtype, shape):
    exact_dtype = torch.complex128 if dtype.is_complex else F64
    start, gradients = randn(*shape).to(dtype), [randn(*shape, seed=seed).to(dtype) for seed in range(1, 30)]
    # with a small epsilon float16's variance underflows, in torch too, and the weights explode
    keywords = {"lr": 1e-2, "weight_decay": 0.1, "eps": 1e-3 if dtype == torch.float16 else 1e-8}
    results = [
        train(optimizer([nn.Parameter(start.to(working))], **keywords), gradients)
        for optimizer, working in ((torch.optim.NAdam, exact_dtype), (torch.optim.NAdam, dtype), (NAdam, dtype))
    ]
    exact, rival, actual = (torch.view_as_real(one) if dtype.is_complex else one for one in results)
    band = 2.0**-8 if dtype == BF16 else torch.finfo(dtype).eps
    assert actual.dtype == rival.dtype
    assert (actual - exact).norm() <= 2 * (rival - exact).norm() + band * exact.norm()


@pytest.mark.parametrize(
    "layout",
    [
        lambda tensor: tensor.to(memory_format=torch.channels_last),
        lambda tensor: tensor.transpose(1, 3).contiguous().transpose(1, 3),
        lambda tensor: torch.stack([tensor, tensor], -1)[..., 0],
    ],
    ids=["channels_last", "transposed", "gaps"],
)
@pytest.mark.parametrize("state_dtype", [None, BF16], ids=str)
def test_layouts(layout, state_dtype):
    start, gradients = randn(3, 4, 5, 6), [randn(3, 4, 5, 6, seed=seed) for seed in range(1, 6)]
    results = []
    for optimizer, keywords in ((torch.optim.NAdam, {}), (NAdam, {"state_dtype": state_dtype})):
        for of_gradient in (layout, torch.clone):
            parameter = nn.Parameter(layout(start))
            stepped = train(optimizer([parameter], lr=1e-2, **keywords), [of_gradient(one) for one in gradients])
            assert stepped.stride() == layout(start).stride()
            results.append(stepped)
    for actual in results[1:]:
        assert torch.allclose(actual, results[0], atol=1e-6 if state_dtype is None else 1e-3)
    assert torch.equal(results[2], results[3])


def test_a_dense_layout_is_not_copied():
    weight = nn.Parameter(randn(3, 4, 5, 6).to(memory_format=torch.channels_last))
    train(NAdam([weight]), [torch.ones_like(weight)])
    assert spf_kernels.counters() == {}


class TestFactoredGradients:
    def setup_method(self):
        self.left, self.right = randn(2, 3, 4), randn(2, 3, 5)
        self.dense = torch.einsum("bcd,bcs->cds", self.left, self.right)
        self.parameter = make_parameter(3, 4, 5)
        self.optimizer = NAdam([self.parameter])

    @pytest.fixture(autouse=True)
    def calls(self, monkeypatch):
        self.called = []
        for name in ("nadam_factored_", "nadam_dense_"):
            original = getattr(ops, name)

            def operator(*arguments, name=name, original=original):
                self.called.append(name)
                return original(*arguments)

            monkeypatch.setattr(ops, name, operator)

    def _assert_stepped_as_with(self, gradient):
        other = make_parameter(3, 4, 5)
        train(torch.optim.NAdam([other]), [gradient])
        self.optimizer.step()
        assert torch.allclose(self.parameter, other, atol=1e-6)

    def test_factors_stay_factors(self):
        self.parameter.grad = FactoredGrad(self.left, self.right, F32)
        self._assert_stepped_as_with(self.dense)
        assert self.called == ["nadam_factored_"]
        assert spf_kernels.counters() == {}

    def test_a_rest_is_added(self):
        rest = randn(3, 4, 5)
        self.parameter.grad = FactoredGrad(self.left, self.right, F32, rest.clone())
        self._assert_stepped_as_with(self.dense + rest)
        assert self.called == ["nadam_dense_"]

    def test_a_rest_alone(self):
        rest = randn(3, 4, 5)
        self.parameter.grad = FactoredGrad(self.left[:0], self.right[:0], F32, rest.clone())
        self._assert_stepped_as_with(rest)

    def test_changed_maps_are_found_out(self):
        self.parameter.grad = FactoredGrad(self.left, self.right, F32)
        before = self.parameter.detach().clone()
        self.right.mul_(2)
        with pytest.raises(RuntimeError, match=r"right .* changed in place"):
            self.optimizer.step()
        assert torch.equal(self.parameter, before)


def test_groups_schedules_and_parameters_without_a_gradient():
    def run(optimizer_class):
        parameters = [make_parameter(4, 5, seed=seed) for seed in range(4)]
        groups = [{"params": parameters[:2], "lr": 0.1}, {"params": parameters[2:3], "weight_decay": 0.1, "eps": 1e-3}]
        optimizer = optimizer_class(groups, lr=0.01)
        optimizer.add_param_group({"params": parameters[3:], "maximize": True, "betas": (0.8, 0.99)})
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
        for step in range(10):
            for index, parameter in enumerate(parameters):
                parameter.grad = None if (step + index) % 3 == 0 else randn(4, 5, seed=10 * step + index)
            optimizer.step()
            schedule.step()
        return torch.stack([parameter.detach() for parameter in parameters])

    assert torch.allclose(run(NAdam), run(torch.optim.NAdam), atol=1e-5)


@pytest.mark.parametrize("shape", [(), (1,)], ids=str)
def test_learning_rate_in_a_tensor(shape):
    gradients = make_gradients(5, *SHAPE)
    rate = torch.full(shape, 0.01)
    expected = train(NAdam([make_parameter(*SHAPE)], lr=rate.item()), gradients)
    assert torch.equal(train(NAdam([make_parameter(*SHAPE)], lr=rate), gradients), expected)


def test_closure():
    parameter = make_parameter(4)
    optimizer = NAdam([("name", parameter)], foreach=True)

    def closure():
        optimizer.zero_grad()
        loss = parameter.square().sum()
        loss.backward()
        return loss

    before = parameter.detach().square().sum()
    assert optimizer.step(closure) == before
    assert parameter.detach().square().sum() < before
    assert optimizer.param_groups[0]["param_names"] == ["name"]


def test_gradient_scaler():
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    parameter, other = make_parameter(6), make_parameter(6)
    optimizer = NAdam([parameter])
    scaler.scale(parameter.square().sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    train(NAdam([other]), [2 * other.detach()])
    assert torch.allclose(parameter, other)
    scaler.scale(parameter.sum() * float("inf")).backward()
    before = parameter.detach().clone()
    scaler.step(optimizer)
    assert torch.equal(parameter, before)


def test_a_step_is_noticed_by_a_backward_that_needs_the_weight():
    weight = make_parameter(3, 4)
    out = (weight @ weight.detach().T).sum() + weight.square().sum()
    weight.grad = torch.ones(3, 4)
    NAdam([weight]).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.backward()


def test_a_compiled_step():
    def run(wrap):
        layer = nn.Linear(3, 2)
        for parameter in layer.parameters():
            nn.init.ones_(parameter)
        optimizer = NAdam(layer.parameters(), state_dtype=BF16)

        def one_step():
            optimizer.zero_grad()
            layer(torch.ones(1, 3)).square().sum().backward()
            optimizer.step()

        step = wrap(one_step)
        for _ in range(4):
            step()
        return layer.weight.detach()

    torch._dynamo.reset()
    assert torch.equal(run(lambda step: torch.compile(step, backend="aot_eager")), run(lambda step: step))


def test_distributed_tensors():
    from torch.distributed import HashStore, destroy_process_group, init_process_group
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Partial, Replicate, distribute_tensor

    init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        parameter = nn.Parameter(distribute_tensor(randn(4, 5), mesh, [Replicate()]))
        optimizer = NAdam([parameter])
        for _ in range(2):
            parameter.grad = DTensor.from_local(torch.ones(4, 5), mesh, [Partial()])
            optimizer.step()
        assert isinstance(optimizer.state[parameter]["exp_avg"], DTensor)
        assert torch.equal(
            parameter.full_tensor(), train(NAdam([make_parameter(4, 5, seed=1)]), [torch.ones(4, 5)] * 2)
        )
    finally:
        destroy_process_group()


def test_state_lies_on_huge_pages(monkeypatch):
    advised = []
    monkeypatch.setattr(native, "advise_huge_pages", lambda tensor: advised.append(tensor.data_ptr()))
    parameter = make_parameter(8)
    optimizer = NAdam([parameter])
    train(optimizer, [torch.ones(8)])
    state = optimizer.state[parameter]
    assert advised == [state["exp_avg"].data_ptr(), state["exp_avg_sq"].data_ptr()]


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"capturable": True}, ValueError, "capturable must be False, got True"),
        ({"differentiable": True}, ValueError, "differentiable must be False, got True"),
        ({"state_dtype": torch.float16}, TypeError, "state_dtype must be one of .*got torch.float16"),
        ({"state_dtype": "bfloat16"}, TypeError, "state_dtype must be one of .*got 'bfloat16'"),
        ({"seed": -1}, ValueError, "seed must be an integer from 0 to 4294967295, got -1"),
        ({"seed": 1 << 32}, ValueError, "seed must be .* got 4294967296"),
        ({"seed": 0.5}, ValueError, "seed must be .* got 0.5"),
        ({"lr": -1.0}, ValueError, "learning rate: -1.0"),
        ({"lr": torch.ones(2)}, ValueError, "lr must be 1-element"),
        ({"betas": (0.9, 1.0)}, ValueError, "beta parameter at index 1: 1.0"),
        ({"eps": -1e-8}, ValueError, "epsilon value: -1e-08"),
    ],
)
def test_wrong_arguments(keywords, error, message):
    with pytest.raises(error, match=message):
        NAdam([make_parameter(2)], **keywords)


def test_wrong_options_of_a_group():
    optimizer = NAdam([make_parameter(2)])
    with pytest.raises(ValueError, match="capturable must be False, got True"):
        optimizer.add_param_group({"params": [make_parameter(3)], "capturable": True})
    assert len(optimizer.param_groups) == 1


def test_sparse_gradients_are_refused_before_anything_changes():
    parameters = [make_parameter(3, 4), make_parameter(3, 4)]
    before = parameters[0].detach().clone()
    parameters[0].grad, parameters[1].grad = torch.ones(3, 4), torch.ones(3, 4).to_sparse()
    with pytest.raises(RuntimeError, match="does not support sparse gradients"):
        NAdam(parameters).step()
    assert torch.equal(parameters[0], before)


def test_complex_parameters_keep_their_own_state_dtype():
    parameter = make_parameter(3, dtype=torch.complex64)
    with pytest.raises(TypeError, match=r"None for complex parameters, got torch\.bfloat16"):
        train(NAdam([parameter], state_dtype=BF16), [torch.ones(3)])


def test_a_named_backend_never_falls_back():
    parameter = make_parameter(3, dtype=F64)
    with spf_kernels.use_backend("native"), pytest.raises(TypeError, match=r"'native' was asked for .*torch\.float64"):
        train(NAdam([parameter]), [torch.ones(3)])
