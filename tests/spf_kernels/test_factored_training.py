"""Backwards with grad_mode="factored" leave what dense ones leave, whoever looks at the gradients."""

import pytest
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.utils.checkpoint import checkpoint

from spf_kernels import FactoredGrad, SPFAutoencoder, SPFFlatten, counters
from spf_kernels.functional import spf_flatten

from .factored_helpers import (
    PREFIX,
    SIDE,
    C,
    D,
    S,
    as_dense,
    backward,
    compare,
    dtype_of,
    make_autoencoder,
    make_maps,
    materialised,
    total_loss,
)

MODES = ("dense", "factored")


class TestGradients:
    def test_both_weights_and_no_bias(self):
        module = make_autoencoder("factored")
        backward(module, 2)
        kinds = {name: type(parameter.grad) for name, parameter in module.named_parameters()}
        assert kinds == {
            "encoder.weight": FactoredGrad,
            "encoder.bias": torch.Tensor,
            "decoder.weight": FactoredGrad,
            "decoder.bias": torch.Tensor,
        }
        assert module.encoder.weight.grad.grad_fn is None

    def test_reconstruct_of_the_decoder(self):
        compare(lambda module: module.reconstruct(make_maps(dtype=dtype_of(module))).square().mean().backward())
        assert materialised() == 0

    def test_accumulation(self):
        module = compare(lambda module: backward(module, 2, 3, 1))
        assert module.encoder.weight.grad.left.shape[0] == 6
        assert materialised() == 0

    def test_accumulation_beyond_the_dense_size(self):
        module = compare(lambda module: backward(module, 3, 3, 3, 3))
        assert module.encoder.weight.grad.left.shape[0] == 0
        assert counters()[f"{PREFIX}accumulated factors as large as the dense gradient"] == 2

    def test_dense_after_factored(self):
        def run(module):
            backward(module, 2)
            module.encoder.weight.square().sum().mul(0.01).backward()
            backward(module, 3)

        gradient = compare(run).encoder.weight.grad
        assert (gradient.left.shape[0], gradient.rest.shape) == (5, (C, D, S))
        assert materialised() == 0

    def test_factored_after_dense(self):
        def run(module):
            module.encoder.weight.square().sum().mul(0.01).backward()
            backward(module, 2)

        assert type(compare(run).encoder.weight.grad) is torch.Tensor
        assert counters() == {f"{PREFIX}aten.add_.Tensor": 1}

    def test_dense_term_of_the_same_loss(self):
        def run(module):
            loss = total_loss(module, make_maps(dtype=dtype_of(module)))
            (loss + 0.01 * module.encoder.weight.square().sum()).backward()

        compare(run)
        assert materialised() == 1

    def test_a_weight_used_twice(self):
        def run(module):
            dtype = dtype_of(module)
            (total_loss(module, make_maps(2, 0, dtype)) + total_loss(module, make_maps(3, 1, dtype))).backward()

        assert compare(run).encoder.weight.grad.left.shape[0] == 5
        assert materialised() == 0

    def test_returned_by_autograd_grad(self):
        layer = SPFFlatten(C, SIDE, D, grad_mode="factored")
        codes = layer(make_maps())
        first, again = (torch.autograd.grad(codes.sum(), layer.weight, retain_graph=True)[0] for _ in range(2))
        assert isinstance(first, FactoredGrad)
        assert torch.equal(first.dense(), again.dense())
        assert layer.weight.grad is None

    def test_computed_weights_get_dense_gradients(self):
        for change in (lambda weight: weight * 2, lambda weight: weight.double().float(), lambda weight: weight + 0):
            gradients = []
            for mode in MODES:
                weight = torch.randn(C, D, S, generator=torch.Generator().manual_seed(0), requires_grad=True)
                spf_flatten(make_maps(), change(weight), None, "tanh", grad_mode=mode).square().sum().backward()
                gradients.append(weight.grad)
            assert type(gradients[1]) is torch.Tensor
            assert torch.equal(*gradients)
        assert materialised() == 0

    def test_parametrised_weights(self):
        layers = [SPFFlatten(C, SIDE, D, grad_mode=mode) for mode in MODES]
        layers[1].load_state_dict(layers[0].state_dict())
        for layer in layers:
            nn.utils.parametrizations.weight_norm(layer)
            layer(make_maps()).square().sum().backward()
        for ours, theirs in zip(layers[1].parameters(), layers[0].parameters(), strict=True):
            assert torch.equal(ours.grad, theirs.grad)

    def test_differentiable_backward_is_dense(self):
        def penalty(module):
            maps = make_maps(dtype=dtype_of(module))
            loss = total_loss(module, maps)
            (gradient,) = torch.autograd.grad(loss, module.encoder.weight, create_graph=True)
            assert type(gradient) is torch.Tensor
            (loss + gradient.square().sum()).backward()

        compare(penalty)
        module = make_autoencoder("factored")
        total_loss(module, make_maps()).backward(create_graph=True)
        assert module.encoder.weight.grad.grad_fn is not None

    @pytest.mark.parametrize("use_reentrant", [True, False])
    def test_activation_checkpointing(self, use_reentrant):
        def run(module):
            maps = make_maps(dtype=dtype_of(module)).requires_grad_()
            codes, loss = checkpoint(module, maps, use_reentrant=use_reentrant)
            (codes.square().mean() + loss).backward()

        assert isinstance(compare(run).encoder.weight.grad, FactoredGrad)
        assert materialised() == 0

    def test_from_linears(self):
        encoders = [nn.Linear(S, D) for _ in range(C)]
        decoders = [nn.Linear(D, S) for _ in range(C)]
        modules = [SPFAutoencoder.from_linears(encoders, decoders, grad_mode=mode) for mode in MODES]
        for module in modules:
            backward(module, 2)
        assert isinstance(modules[1].encoder.weight.grad, FactoredGrad)
        for ours, theirs in zip(modules[1].parameters(), modules[0].parameters(), strict=True):
            assert torch.equal(as_dense(ours.grad), theirs.grad)
        assert SPFFlatten.from_linears(encoders, grad_mode="factored").grad_mode == "factored"

    def test_representation(self):
        assert str(SPFFlatten(3, (5, 6), 4, grad_mode="factored")).endswith("bias=True, grad_mode='factored')")
        assert "grad_mode" not in str(make_autoencoder("dense"))
        assert str(make_autoencoder("factored")).count("grad_mode='factored'") == 2


class TestHooks:
    def test_tensor_hooks_see_and_change_it(self):
        def run(module):
            seen = []
            module.encoder.weight.register_hook(seen.append)
            module.encoder.weight.register_hook(lambda gradient: gradient * 2)
            module.encoder.weight.register_hook(seen.append)
            backward(module, 2, 2)
            assert torch.equal(as_dense(seen[0]) * 2, as_dense(seen[1]))

        assert isinstance(compare(run).encoder.weight.grad, FactoredGrad)
        assert materialised() == 0

    def test_tensor_hooks_may_return_dense_ones(self):
        def run(module):
            module.encoder.weight.register_hook(lambda gradient: gradient.clamp(-1e-3, 1e-3))
            backward(module, 2, 2)

        assert type(compare(run).encoder.weight.grad) is torch.Tensor
        assert counters() == {f"{PREFIX}aten.clamp.default": 2}

    def test_a_gradient_that_a_hook_keeps_is_not_shared(self):
        module, kept = make_autoencoder("factored"), []
        module.encoder.weight.register_hook(kept.append)
        backward(module, 2)
        before = kept[0].dense()
        module.encoder.weight.grad.mul_(3)
        assert torch.equal(kept[0].dense(), before)
        torch.testing.assert_close(module.encoder.weight.grad.dense(), before * 3)

    def test_optimizer_in_the_backward(self):
        def run(module):
            for parameter in module.parameters():
                optimizer = torch.optim.SGD([parameter], lr=0.1)

                def step(parameter, optimizer=optimizer):
                    assert parameter.grad is not None
                    optimizer.step()
                    optimizer.zero_grad()

                parameter.register_post_accumulate_grad_hook(step)
            backward(module, 2, 3)
            assert all(parameter.grad is None for parameter in module.parameters())

        compare(run)


class TestMixedPrecision:
    def _train(self, module, autocast, init_scale=2.0**10, steps=2, factor=1.0):
        scaler = torch.amp.GradScaler("cpu", init_scale=init_scale, growth_interval=1)
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        scales = []
        for seed in range(steps):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
                loss = total_loss(module, make_maps(2, seed, dtype_of(module))) * factor
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            clip_grad_norm_(module.parameters(), 0.05)
            scaler.step(optimizer)
            scaler.update()
            scales.append(scaler.get_scale())
        return scales

    def test_grad_scaler(self):
        compare(lambda module: self._train(module, autocast=False))

    def test_autocast(self):
        modules = [make_autoencoder(mode) for mode in MODES]
        for module in modules:
            self._train(module, autocast=True)
        # of bfloat16 codes and maps, but summed, scaled and stored in the weight's dtype
        gradient = modules[1].encoder.weight.grad
        assert gradient.dtype == gradient.dense().dtype == torch.float32
        for ours, theirs in zip(modules[1].parameters(), modules[0].parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)
            torch.testing.assert_close(as_dense(ours.grad), theirs.grad, rtol=1e-5, atol=1e-7)

    def test_factors_keep_their_dtype_under_autocast(self):
        module = make_autoencoder("factored")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = total_loss(module, make_maps())
            # the backward inside the block must not be cast either
            loss.backward()
            assert module.encoder.weight.grad.norm().dtype == torch.float32
        assert module.encoder.weight.grad.right.dtype == torch.bfloat16
        assert module.encoder.weight.grad.dense().dtype == torch.float32

    def test_overflow_skips_the_step(self):
        outcomes = []
        for mode in MODES:
            module = make_autoencoder(mode)
            before = module.encoder.weight.detach().clone()
            outcomes.append(self._train(module, autocast=True, init_scale=2.0**127, steps=1, factor=1e6))
            assert torch.equal(module.encoder.weight, before)
        assert outcomes[0] == outcomes[1] == [2.0**126]

    def test_low_precision_weights(self):
        modules = [make_autoencoder(mode, dtype=torch.bfloat16) for mode in MODES]
        for module in modules:
            total_loss(module, make_maps(dtype=torch.bfloat16)).backward()
        for ours, theirs in zip(modules[1].parameters(), modules[0].parameters(), strict=True):
            assert torch.equal(as_dense(ours.grad), theirs.grad)
