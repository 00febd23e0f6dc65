"""Training with grad_mode="factored" and any optimizer gives what training with dense gradients gives."""

import copy
import io

import pytest
import torch
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from spf_kernels import FactoredGrad

from .factored_helpers import (
    C,
    D,
    S,
    backward,
    compare,
    make_autoencoder,
    make_maps,
    materialised,
    total_loss,
)
from .helpers import assert_within_budget

MODES = ("dense", "factored")


OPTIMIZERS = {
    "SGD": (torch.optim.SGD, {"lr": 0.1}),
    "SGD momentum": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    "Adam": (torch.optim.Adam, {"lr": 0.01, "eps": 1e-3}),
    "Adam decay": (torch.optim.Adam, {"lr": 0.01, "eps": 1e-3, "weight_decay": 0.1, "amsgrad": True}),
    "AdamW": (torch.optim.AdamW, {"lr": 0.01, "eps": 1e-3, "maximize": True}),
    "NAdam": (torch.optim.NAdam, {"lr": 0.01, "eps": 1e-3}),
    "NAdam decay": (torch.optim.NAdam, {"lr": 0.01, "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
}


class TestOptimizers:
    @pytest.mark.parametrize("set_to_none", [True, False])
    @pytest.mark.parametrize("foreach", [True, False], ids=["foreach", "single"])
    @pytest.mark.parametrize("name", OPTIMIZERS)
    def test_of_torch(self, name, foreach, set_to_none):
        make, options = OPTIMIZERS[name]

        def train(module):
            optimizer = make(module.parameters(), foreach=foreach, **options)
            for batch in (2, 3, 2):
                optimizer.zero_grad(set_to_none=set_to_none)
                backward(module, batch)
                clip_grad_norm_(module.parameters(), 0.05, foreach=foreach)
                optimizer.step()

        compare(train)
        # two weights, three steps; then a sum with zeros and the factors made dense
        assert 6 <= materialised() <= 12

    @pytest.mark.parametrize("name", ["SGD momentum", "Adam", "AdamW"])
    def test_fused_of_torch(self, name):
        make, options = OPTIMIZERS[name]

        def train(module):
            optimizer = make(module.parameters(), fused=True, **options)
            for batch in (2, 3):
                optimizer.zero_grad()
                backward(module, batch)
                optimizer.step()

        compare(train)
        assert materialised() == 4

    def test_rprop_changes_a_clone(self):
        def train(module):
            optimizer = torch.optim.Rprop(module.parameters(), foreach=False)
            for _ in range(3):
                optimizer.zero_grad()
                backward(module, 2)
                optimizer.step()

        module, dense = make_autoencoder("factored"), make_autoencoder("dense")
        train(module)
        train(dense)
        for ours, theirs in zip(module.parameters(), dense.parameters(), strict=True):
            assert torch.equal(ours, theirs)

    @pytest.mark.parametrize("set_to_none", [True, False])
    def test_zero_grad(self, set_to_none):
        module = make_autoencoder("factored")
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        backward(module, 2)
        optimizer.zero_grad(set_to_none=set_to_none)
        gradient = module.encoder.weight.grad
        assert (gradient is None) == set_to_none
        assert set_to_none or (gradient.left.shape[0] == 0 and gradient.norm() == 0)
        backward(module, 2)
        assert module.encoder.weight.grad.left.shape[0] == 2
        assert materialised() == 0

    def test_optimizer_state_survives_a_file(self):
        module = make_autoencoder("factored")
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
        for _ in range(2):
            optimizer.zero_grad()
            backward(module, 2)
            optimizer.step()
        file = io.BytesIO()
        torch.save(optimizer.state_dict(), file)
        file.seek(0)
        other = copy.deepcopy(module)
        resumed = torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9)
        resumed.load_state_dict(torch.load(file, weights_only=True))
        for each, its in ((module, optimizer), (other, resumed)):
            its.zero_grad()
            backward(each, 3)
            its.step()
        for ours, theirs in zip(other.parameters(), module.parameters(), strict=True):
            assert torch.equal(ours, theirs)


class TestClipping:
    @pytest.mark.parametrize("foreach", [True, False, None])
    @pytest.mark.parametrize("norm_type", [2.0, 1.0, float("inf")])
    def test_by_norm(self, norm_type, foreach):
        norms = []

        def run(module):
            backward(module, 2, 3)
            norms.append(clip_grad_norm_(module.parameters(), 1e-2, norm_type, foreach=foreach))

        compare(run)
        assert_within_budget(*norms, norms[-1].abs())
        assert materialised() == (0 if norm_type == 2 else 2)

    def test_by_value_is_refused(self):
        module = make_autoencoder("factored")
        backward(module, 2)
        with pytest.raises(RuntimeError, match="would write to a factored gradient"):
            clip_grad_value_(module.parameters(), 1e-3)


class _SGDByMaps(torch.optim.Optimizer):
    """Takes factors: updates one map after the other."""

    def __init__(self, parameters, lr):
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient = parameter.grad
                if isinstance(gradient, FactoredGrad):
                    for weight, left, right in zip(
                        parameter, gradient.left.unbind(1), gradient.right.unbind(1), strict=True
                    ):
                        weight.addmm_(left.T, right, alpha=-group["lr"])
                else:
                    parameter.sub_(gradient, alpha=group["lr"])


class _LargestTensor(TorchDispatchMode):
    """The most elements of a tensor made, of those with memory of their own."""

    def __init__(self, module):
        super().__init__()
        self.known = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if type(tensor) is torch.Tensor and tensor.untyped_storage().data_ptr() not in self.known:
                self.elements = max(self.elements, tensor.numel())
        return result


@pytest.mark.parametrize("mode", MODES)
def test_the_dense_gradient_is_never_made(mode, monkeypatch):
    if mode == "factored":
        monkeypatch.setenv("SPF_FACTORED_STRICT", "1")
    module, dense = make_autoencoder(mode), make_autoencoder("dense")
    optimizer, expected = _SGDByMaps(module.parameters(), 0.1), torch.optim.SGD(dense.parameters(), 0.1)
    with _LargestTensor(module) as largest:
        for seed in range(2):
            optimizer.zero_grad()
            for part in (2, 3):
                total_loss(module, make_maps(part, seed)).backward()
            clip_grad_norm_(module.parameters(), 0.05)
            optimizer.step()
    for seed in range(2):
        expected.zero_grad()
        for part in (2, 3):
            total_loss(dense, make_maps(part, seed)).backward()
        clip_grad_norm_(dense.parameters(), 0.05)
        expected.step()
    assert (largest.elements < C * D * S) == (mode == "factored")
    assert materialised() == 0
    for ours, theirs in zip(module.parameters(), dense.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
