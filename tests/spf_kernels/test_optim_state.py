"""The state of `spf_kernels.optim.NAdam`: checkpoints to and from torch's, resumed runs, averages in bfloat16."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

from spf_kernels.optim import NAdam

from .helpers import NAME, needs_kernels, randn
from .optim_helpers import BF16, F32, SHAPE, make_gradients, make_parameter, options, train

pytestmark = [needs_kernels, pytest.mark.skipif(NAME != "native", reason="tensors on the CPU")]


@options
@pytest.mark.parametrize("direction", ["to torch", "from torch"])
def test_checkpoints_are_interchangeable(direction, options):
    gradients = make_gradients(40, *SHAPE)
    first, second = (NAdam, torch.optim.NAdam) if direction == "to torch" else (torch.optim.NAdam, NAdam)
    source = first([make_parameter(*SHAPE)], **options)
    parameter = nn.Parameter(train(source, gradients[:20]).clone())
    target = second([parameter])
    target.load_state_dict(copy.deepcopy(source.state_dict()))
    assert target.state_dict().keys() == source.state_dict().keys()
    assert target.state_dict()["param_groups"] == source.state_dict()["param_groups"]
    assert target.state_dict()["state"][0].keys() == source.state_dict()["state"][0].keys()
    expected = train(torch.optim.NAdam([make_parameter(*SHAPE)], **options), gradients)
    assert torch.allclose(train(target, gradients[20:]), expected, rtol=1e-5, atol=1e-6)


def saved(optimizer):
    """The state as it comes back from a file."""
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("dtype", [F32, BF16], ids=str)
@pytest.mark.parametrize("state_dtype", [None, F32, BF16], ids=str)
def test_a_resumed_run_is_the_same_bit_by_bit(state_dtype, dtype):
    gradients = make_gradients(20, *SHAPE)
    keywords = {"lr": 1e-2, "state_dtype": state_dtype, "seed": 7}
    whole = train(NAdam([make_parameter(*SHAPE, dtype=dtype)], **keywords), gradients)
    first = NAdam([make_parameter(*SHAPE, dtype=dtype)], **keywords)
    parameter = nn.Parameter(train(first, gradients[:11]).clone())
    second = NAdam([parameter], **keywords)
    second.load_state_dict(saved(first))
    state = second.state[parameter]
    assert state["exp_avg"].dtype == state["exp_avg_sq"].dtype == (state_dtype or dtype)
    assert state["step"].dtype == state["mu_product"].dtype == F32
    assert torch.equal(train(second, gradients[11:]), whole)


def test_a_loaded_state_takes_the_optimizers_dtype():
    source = NAdam([make_parameter(*SHAPE)], state_dtype=BF16)
    train(source, make_gradients(3, *SHAPE))
    for state_dtype in (None, F32, BF16):
        target = NAdam([make_parameter(*SHAPE)], state_dtype=state_dtype)
        target.load_state_dict(saved(source))
        (state,), (expected,) = target.state.values(), source.state.values()
        assert state["exp_avg"].dtype == (state_dtype or F32)
        assert torch.equal(state["exp_avg"].float(), expected["exp_avg"].float())


def test_loading_never_makes_float32_of_bfloat16_state():
    # on a card that the bfloat16 state just fits, a conversion there and back would not
    source = NAdam([make_parameter(*SHAPE)], state_dtype=BF16)
    train(source, make_gradients(3, *SHAPE))
    target = NAdam([make_parameter(*SHAPE)], state_dtype=BF16)
    checkpoint = source.state_dict()
    target.load_state_dict(checkpoint)
    (state,), (expected,) = target.state.values(), source.state.values()
    assert state["exp_avg"].data_ptr() == expected["exp_avg"].data_ptr()


def test_load_hooks_see_tensors_and_values_of_others_stay():
    source = NAdam([make_parameter(*SHAPE)], state_dtype=BF16)
    train(source, make_gradients(1, *SHAPE))
    checkpoint = source.state_dict()
    checkpoint["state"]["somebody's"] = {"note": 1}
    seen = []
    target = NAdam([make_parameter(*SHAPE)], state_dtype=BF16)
    target.register_load_state_dict_pre_hook(lambda _, state: seen.append(state["state"][0]["exp_avg"].dtype))
    target.register_load_state_dict_post_hook(lambda optimizer: seen.append(len(optimizer.state)))
    target.load_state_dict(checkpoint)
    assert seen == [BF16, 2]
    assert target.state["somebody's"] == {"note": 1}
    assert len(target._optimizer_load_state_dict_pre_hooks) == 1


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda optimizer: pickle.loads(pickle.dumps(optimizer))])
def test_copies(copied):
    gradients = make_gradients(6, *SHAPE)
    optimizer = NAdam([make_parameter(*SHAPE)], state_dtype=BF16, seed=5)
    train(optimizer, gradients[:3])
    other = copied(optimizer)
    assert torch.equal(train(other, gradients[3:]), train(optimizer, gradients[3:]))
    (state,) = other.state.values()
    assert state["exp_avg"].dtype == BF16


def test_a_checkpoint_of_a_captured_run_is_loaded():
    source = torch.optim.NAdam([make_parameter(*SHAPE)])
    train(source, make_gradients(3, *SHAPE))
    checkpoint = source.state_dict()
    checkpoint["param_groups"][0]["capturable"] = True
    target = NAdam([make_parameter(*SHAPE)])
    target.load_state_dict(checkpoint)
    assert target.param_groups[0]["capturable"] is False
    assert target.state_dict()["state"][0]["step"].item() == 3


class TestBfloat16State:
    def test_seed_position_and_step_decide(self):
        def momenta(seed, gradients=2):
            parameters = [make_parameter(*SHAPE), make_parameter(*SHAPE)]
            optimizer = NAdam([{"params": parameters[:1]}, {"params": parameters[1:]}], state_dtype=BF16, seed=seed)
            for _ in range(gradients):
                for parameter in parameters:
                    parameter.grad = randn(*SHAPE)
                optimizer.step()
            return [optimizer.state[parameter]["exp_avg"] for parameter in parameters]

        one, again, other = momenta(1), momenta(1), momenta(2)
        assert torch.equal(one[0], again[0])
        assert torch.equal(one[1], again[1])
        assert not torch.equal(one[0], other[0])
        assert not torch.equal(one[0], one[1])

    def test_the_variance_does_not_stand_still(self):
        parameter = make_parameter(1 << 12)
        optimizer = NAdam([parameter], lr=1e-4, state_dtype=BF16)
        train(optimizer, [torch.full((1 << 12,), 0.1)] * 1000)
        expected = 0.01 * (1 - 0.999**1000)
        mean = optimizer.state[parameter]["exp_avg_sq"].double().mean()
        assert mean.item() == pytest.approx(expected, rel=1e-3)
        # to nearest, it stops where a thousandth of the rest is less than half a step
        nearest = torch.zeros((), dtype=BF16)
        for _ in range(1000):
            nearest = (nearest.float() + 0.001 * (0.01 - nearest.float())).to(BF16)
        assert nearest.item() < 0.8 * expected

    def test_training_ends_where_float32_ends(self):
        matrix, target = randn(64, 20), randn(64)
        losses = {}
        for state_dtype in (None, BF16):
            weight = nn.Parameter(torch.zeros(20))
            optimizer = NAdam([weight], lr=0.02, state_dtype=state_dtype)
            for _ in range(400):
                optimizer.zero_grad()
                (matrix @ weight - target).square().mean().backward()
                optimizer.step()
            losses[state_dtype] = (matrix @ weight - target).square().mean().item()
        best = (matrix @ torch.linalg.lstsq(matrix, target[:, None]).solution[:, 0] - target).square().mean().item()
        assert losses[BF16] - best < 2 * (losses[None] - best) + 1e-3 * best

    def test_state_of_half_the_size(self):
        optimizer = NAdam([make_parameter(*SHAPE)], state_dtype=BF16)
        train(optimizer, make_gradients(1, *SHAPE))
        (state,) = optimizer.state.values()
        assert state["exp_avg"].dtype == state["exp_avg_sq"].dtype == BF16
