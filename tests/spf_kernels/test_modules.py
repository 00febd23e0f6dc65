"""The modules as people use them: casting, copying, saving, autocast, training."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import spf_kernels
from spf_kernels import AutoencoderOutput, SPFAutoencoder, SPFDecoder, SPFFlatten
from spf_kernels.functional import spf_flatten, spf_reconstruct, spf_reconstruction_loss

from .helpers import BACKEND, DEVICE, needs_kernels, randn

C, D, H, W = 3, 4, 5, 6


def _maps(batch=2, dtype=torch.float32):
    return randn(batch, C, H, W, dtype=dtype, seed=batch)


def _autoencoder(**options):
    torch.manual_seed(0)
    return SPFAutoencoder(C, (H, W), D, "tanh", "sigmoid", **{"device": DEVICE, **options})


def _flatten(activation=None, **options):
    return SPFFlatten(C, (H, W), D, activation, device=DEVICE, **options)


@pytest.fixture(params=["flatten", "autoencoder"])
def module(request):
    return _flatten("relu") if request.param == "flatten" else _autoencoder()


def test_shapes_and_names():
    autoencoder = _autoencoder()
    output = autoencoder(_maps())
    assert isinstance(output, AutoencoderOutput)
    assert output._fields == ("codes", "loss")
    assert output.codes.shape == (2, C * D)
    assert output.loss.shape == ()
    assert autoencoder.reconstruct(_maps()).shape == (2, C, H, W)
    assert _autoencoder(reduction="none")(_maps()).loss.shape == (2,)
    assert SPFFlatten(C, 5, D).map_size == (5, 5)


def test_maps_may_be_flat():
    layer = _flatten()
    assert torch.equal(layer(_maps()), layer(_maps().flatten(2)))


def test_codes_may_be_split():
    decoder = SPFDecoder(C, (H, W), D, device=DEVICE)
    codes = randn(2, C * D)
    split = codes.view(2, C, D)
    assert torch.equal(decoder(codes), decoder(split))
    maps, weight = _maps(), decoder.weight
    assert torch.equal(
        spf_reconstruction_loss(codes, maps, weight), spf_reconstruction_loss(split, maps.flatten(2), weight)
    )


def test_state_dict_keys_and_shapes():
    shapes = {name: tuple(value.shape) for name, value in _autoencoder().state_dict().items()}
    assert shapes == {
        "encoder.weight": (C, D, H * W),
        "encoder.bias": (C, D),
        "decoder.weight": (C, D, H * W),
        "decoder.bias": (C, H * W),
    }
    assert set(SPFFlatten(C, 5, D, bias=False).state_dict()) == {"weight"}
    assert set(_autoencoder(bias=False).state_dict()) == {"encoder.weight", "decoder.weight"}


def _outputs(module):
    output = module(_maps())
    return output if isinstance(output, tuple) else (output,)


def _assert_same_outputs(actual, expected):
    for ours, theirs in zip(_outputs(actual), _outputs(expected), strict=True):
        assert torch.equal(ours, theirs)


def test_state_dict_survives_a_file(module):
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    other = copy.deepcopy(module)
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    other.load_state_dict(torch.load(file, weights_only=True))
    _assert_same_outputs(other, module)


def test_deepcopy_and_pickle_give_modules_of_their_own(module):
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        _assert_same_outputs(other, module)
        assert str(other) == str(module)
        addresses = {parameter.data_ptr() for parameter in module.parameters()}
        assert not addresses & {parameter.data_ptr() for parameter in other.parameters()}


def test_representation_names_the_arguments():
    assert str(SPFFlatten(3, (5, 6), 4, "relu", bias=False)) == (
        "SPFFlatten(num_maps=3, map_size=(5, 6), code_size=4, activation='relu', bias=False)"
    )
    assert "(decoder): SPFDecoder(num_maps=3, map_size=(5, 6), code_size=4, activation='sigmoid'" in str(_autoencoder())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_to_another_dtype(dtype, module):
    module = module.to(dtype)
    output = module(_maps(dtype=dtype))
    outputs = output if isinstance(output, tuple) else (output,)
    assert outputs[0].dtype == dtype
    exact = copy.deepcopy(module).double()(_maps(dtype=dtype).double())
    for actual, expected in zip(outputs, exact if isinstance(exact, tuple) else (exact,), strict=True):
        tolerance = 8 * torch.finfo(dtype).eps
        assert torch.allclose(actual.double(), expected, rtol=tolerance, atol=tolerance)


def test_loss_of_low_precision_is_float32():
    assert _autoencoder(dtype=torch.bfloat16)(_maps(dtype=torch.bfloat16)).loss.dtype == torch.float32
    assert _autoencoder().double()(_maps().double()).loss.dtype == torch.float64


def test_double_runs_on_the_reference(monkeypatch):
    monkeypatch.setattr(BACKEND, "encode", None)
    monkeypatch.setattr(BACKEND, "reconstruct", None)
    codes, loss = _autoencoder().double()(_maps().double())
    assert codes.dtype == loss.dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_low_precision_weights_take_float32_maps(dtype):
    layer = _flatten(dtype=dtype)
    maps = _maps().requires_grad_()
    codes = layer(maps)
    codes.sum().backward()
    assert codes.dtype == maps.grad.dtype == torch.float32
    assert layer.weight.grad.dtype == layer.bias.grad.dtype == dtype


def test_meta_device_gives_shapes_without_memory():
    autoencoder = _autoencoder(device="meta")
    maps = torch.empty(2, C, H, W, device="meta", requires_grad=True)
    codes, loss = autoencoder(maps)
    (codes.sum() + loss).backward()
    assert codes.device.type == loss.device.type == "meta"
    assert codes.shape == (2, C * D)
    assert maps.grad.shape == maps.shape
    assert autoencoder.decoder.weight.grad.shape == (C, D, H * W)
    materialised = autoencoder.to_empty(device=DEVICE)
    for layer in (materialised.encoder, materialised.decoder):
        layer.reset_parameters()
    assert materialised(_maps()).loss.isfinite()


class TestAutocast:
    def test_maps_are_cast_and_weights_are_not(self, monkeypatch):
        seen = []
        original = torch.ops.spf_kernels.encode.default
        monkeypatch.setattr(
            spf_kernels.ops, "encode", lambda *arguments: seen.append(arguments) or original(*arguments)
        )
        layer = _flatten()
        with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
            codes = layer(_maps())
        assert codes.dtype == torch.bfloat16
        assert seen[0][0].dtype == torch.bfloat16
        assert seen[0][1].data_ptr() == layer.weight.data_ptr()

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    def test_gradients_have_the_parameters_dtype(self, dtype):
        autoencoder = _autoencoder(dtype=dtype)
        maps = _maps().requires_grad_()
        with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
            codes, loss = autoencoder(maps)
        (codes.float().square().sum() + loss).backward()
        assert codes.dtype == torch.bfloat16
        assert loss.dtype == maps.grad.dtype == torch.float32
        assert {parameter.grad.dtype for parameter in autoencoder.parameters()} == {dtype}

    def test_close_to_full_precision(self):
        autoencoder = _autoencoder()
        expected = autoencoder(_maps())
        expected.loss.backward()
        exact = autoencoder.encoder.weight.grad.clone()
        autoencoder.zero_grad()
        with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
            actual = autoencoder(_maps())
            # the backward inside the block must not be cast either
            actual.loss.backward()
        assert torch.allclose(actual.codes.float(), expected.codes, rtol=0.02, atol=0.02)
        assert torch.allclose(actual.loss, expected.loss, rtol=0.02)
        error = (autoencoder.encoder.weight.grad - exact).norm() / exact.norm()
        assert error < 0.02

    @pytest.mark.parametrize("backend", ["auto", "reference"])
    def test_only_the_maps_are_rounded(self, backend):
        layer = _flatten("tanh")
        with spf_kernels.use_backend(backend):
            expected = layer(_maps(dtype=torch.bfloat16))
            with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
                assert torch.equal(layer(_maps()), expected)

    def test_float64_is_left_alone(self):
        with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
            codes, loss = _autoencoder().double()(_maps().double())
        assert codes.dtype == loss.dtype == torch.float64

    def test_the_functions_cast_alike(self):
        autoencoder = _autoencoder()
        encoder, decoder = autoencoder.encoder, autoencoder.decoder
        with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
            codes = spf_flatten(_maps(), encoder.weight, encoder.bias, "tanh")
            decoded = spf_reconstruct(codes.float(), decoder.weight, decoder.bias, "sigmoid")
            loss = spf_reconstruction_loss(codes.float(), _maps(), decoder.weight, decoder.bias, "sigmoid")
        assert decoded.dtype == torch.bfloat16
        assert torch.equal(loss, loss.float())
        assert torch.allclose(loss, (decoded.float() - _maps().flatten(2)).square().mean(), rtol=0.02)


def test_functional_call():
    layer = _flatten()
    parameters = {name: torch.ones_like(value) for name, value in layer.named_parameters()}
    codes = torch.func.functional_call(layer, parameters, (_maps(),))
    expected = _maps().sum((2, 3), keepdim=False).repeat_interleave(D, 1) + 1
    assert torch.allclose(codes, expected, atol=1e-5)


@needs_kernels
@pytest.mark.parametrize("set_to_none", [True, False])
def test_training_lowers_the_loss(set_to_none):
    autoencoder = _autoencoder()
    head = nn.Linear(C * D, 2, device=DEVICE)
    parameters = [*autoencoder.parameters(), *head.parameters()]
    optimizer = torch.optim.NAdam(parameters, lr=0.02)
    maps = _maps(16).sigmoid()
    labels = (maps.mean((1, 2, 3)) > maps.mean()).long()
    losses = []
    for _ in range(24):
        optimizer.zero_grad(set_to_none=set_to_none)
        codes, reconstruction = autoencoder(maps)
        loss = nn.functional.cross_entropy(head(codes), labels) + reconstruction
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_gradients_accumulate():
    autoencoder = _autoencoder(reduction="sum")
    maps = _maps(6)
    autoencoder(maps).loss.backward()
    whole = [parameter.grad for parameter in autoencoder.parameters()]
    autoencoder.zero_grad(set_to_none=True)
    for part in maps.split([1, 2, 3]):
        autoencoder(part).loss.backward()
    for parameter, expected in zip(autoencoder.parameters(), whole, strict=True):
        assert torch.allclose(parameter.grad, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_activation_checkpointing(use_reentrant):
    gradients = []
    for again in (False, True):
        autoencoder, maps = _autoencoder(), _maps().requires_grad_()
        codes, loss = checkpoint(autoencoder, maps, use_reentrant=use_reentrant) if again else autoencoder(maps)
        (codes.sum() + loss).backward()
        gradients.append([maps.grad, *(parameter.grad for parameter in autoencoder.parameters())])
    for plain, checkpointed in zip(*gradients, strict=True):
        assert torch.equal(plain, checkpointed)


@pytest.mark.parametrize("frozen", ["encoder", "decoder", "encoder.weight", "decoder.bias"])
def test_frozen_parameters_get_no_gradient(frozen):
    autoencoder = _autoencoder()
    for name, parameter in autoencoder.named_parameters():
        parameter.requires_grad_(not name.startswith(frozen))
    codes, loss = autoencoder(_maps())
    (codes.sum() + loss).backward()
    for name, parameter in autoencoder.named_parameters():
        assert (parameter.grad is None) == name.startswith(frozen)


def test_version_and_public_names():
    assert spf_kernels.__version__[0].isdigit()
    for name in spf_kernels.__all__:
        assert getattr(spf_kernels, name) is not None
