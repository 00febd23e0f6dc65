"""Wrong arguments are refused before work is done, by a message that names the argument and the value got."""

import re

import pytest
import torch

import spf_kernels
from spf_kernels import SPFAutoencoder, SPFDecoder, SPFFlatten
from spf_kernels.functional import spf_flatten, spf_reconstruct, spf_reconstruction_loss

B, C, D, S = 2, 3, 4, 30


def _zeros(*shape, **options):
    return torch.zeros(shape, **options)


MAPS = {"maps": _zeros(B, C, 5, 6)}
CODES = {"codes": _zeros(B, C * D)}
WEIGHT = {"weight": _zeros(C, D, S)}
FLATTEN = (spf_flatten, {**MAPS, **WEIGHT})
RECONSTRUCT = (spf_reconstruct, {**CODES, **WEIGHT})
LOSS = (spf_reconstruction_loss, {**CODES, **MAPS, **WEIGHT})
F16, BF16, F32, F64 = torch.float16, torch.bfloat16, torch.float32, torch.float64

# (function and its right arguments, what is wrong, the error, what its message must hold)
WRONG = [
    (FLATTEN, {"maps": _zeros(C, S)}, ValueError, "maps", "(3, 30)"),
    (FLATTEN, {"maps": _zeros(1, B, C, 5, 6)}, ValueError, "maps", "(1, 2, 3, 5, 6)"),
    (FLATTEN, {"maps": _zeros(B, 5, 5, 6)}, ValueError, "maps must have 3 channels", "got 5"),
    (FLATTEN, {"maps": _zeros(B, C, 5, 5)}, ValueError, "maps must have 30 pixels", "got 25", "(2, 3, 5, 5)"),
    (FLATTEN, {"maps": _zeros(B, C, 29)}, ValueError, "maps must have 30 pixels", "got 29"),
    (FLATTEN, {"maps": _zeros(B, C, S, dtype=torch.int64)}, TypeError, "maps", "torch.int64"),
    (FLATTEN, {"maps": _zeros(B, C, S, dtype=torch.bool)}, TypeError, "maps", "torch.bool"),
    (FLATTEN, {"maps": _zeros(B, C, S, dtype=torch.complex64)}, TypeError, "maps", "torch.complex64"),
    (FLATTEN, {"maps": _zeros(B, C, S, dtype=F64)}, TypeError, "weight", "torch.float64", "torch.float32"),
    (FLATTEN, {"maps": _zeros(B, C, S, device="meta")}, ValueError, "weight", "meta", "got cpu"),
    (FLATTEN, {"weight": _zeros(C, D)}, ValueError, "weight", "(3, 4)"),
    (FLATTEN, {"weight": _zeros(C, D, 5, 6)}, ValueError, "weight", "(3, 4, 5, 6)"),
    (FLATTEN, {"weight": _zeros(5, D, S)}, ValueError, "maps must have 5 channels", "got 3"),
    (FLATTEN, {"weight": _zeros(C, D, 7)}, ValueError, "maps must have 7 pixels", "got 30"),
    (FLATTEN, {"weight": _zeros(C, D, S, dtype=torch.int32)}, TypeError, "weight", "torch.int32"),
    (FLATTEN, {"weight": _zeros(C, D, S, dtype=F64)}, TypeError, "weight", "torch.float64"),
    (FLATTEN, {"weight": _zeros(C, D, S, device="meta")}, ValueError, "weight", "cpu", "got meta"),
    (FLATTEN, {"bias": _zeros(C, S)}, ValueError, "bias must have shape (3, 4)", "got (3, 30)"),
    (FLATTEN, {"bias": _zeros(C * D)}, ValueError, "bias must have shape (3, 4)", "got (12,)"),
    (FLATTEN, {"bias": _zeros(C, D, dtype=BF16)}, TypeError, "bias", "torch.float32", "got torch.bfloat16"),
    (FLATTEN, {"bias": _zeros(C, D, device="meta")}, ValueError, "bias", "cpu", "got meta"),
    (FLATTEN, {"activation": "gelu"}, ValueError, "activation", "relu", "'gelu'"),
    (FLATTEN, {"activation": ""}, ValueError, "activation", "got ''"),
    (RECONSTRUCT, {"codes": _zeros(B, C * D + 1)}, ValueError, "codes must have 12 = 3 x 4", "got 13"),
    (RECONSTRUCT, {"codes": _zeros(B, D, C)}, ValueError, "codes", "(2, 4, 3)"),
    (RECONSTRUCT, {"codes": _zeros(C * D)}, ValueError, "codes", "(12,)"),
    (RECONSTRUCT, {"codes": _zeros(B, C, D, 1)}, ValueError, "codes", "(2, 3, 4, 1)"),
    (RECONSTRUCT, {"codes": _zeros(B, C * D, dtype=torch.int64)}, TypeError, "codes", "torch.int64"),
    (RECONSTRUCT, {"codes": _zeros(B, C * D, dtype=F64)}, TypeError, "weight", "torch.float64"),
    (RECONSTRUCT, {"codes": _zeros(B, C * D, device="meta")}, ValueError, "weight", "meta", "got cpu"),
    (RECONSTRUCT, {"weight": _zeros(C, D)}, ValueError, "weight", "(3, 4)"),
    (RECONSTRUCT, {"bias": _zeros(C, D)}, ValueError, "bias must have shape (3, 30)", "got (3, 4)"),
    (RECONSTRUCT, {"activation": "softmax"}, ValueError, "activation", "'softmax'"),
    (LOSS, {"codes": _zeros(B + 1, C * D)}, ValueError, "codes must have the batch size of maps (2)", "got 3"),
    (LOSS, {"codes": _zeros(B, C * D, dtype=BF16)}, TypeError, "maps", "torch.bfloat16", "got torch.float32"),
    (LOSS, {"maps": _zeros(B, C + 1, S)}, ValueError, "maps must have 3 channels", "got 4"),
    (LOSS, {"maps": _zeros(B, C, S + 1)}, ValueError, "maps must have 30 pixels", "got 31"),
    (LOSS, {"maps": _zeros(B, C, S, dtype=torch.uint8)}, TypeError, "maps", "torch.uint8"),
    (LOSS, {"maps": _zeros(B, C, S, device="meta")}, ValueError, "maps", "cpu", "got meta"),
    (LOSS, {"bias": _zeros(C, D)}, ValueError, "bias must have shape (3, 30)", "got (3, 4)"),
    (LOSS, {"activation": "elu"}, ValueError, "activation", "'elu'"),
    (LOSS, {"reduction": "average"}, ValueError, "reduction", "mean", "'average'"),
    (LOSS, {"reduction": None}, ValueError, "reduction", "None"),
]


@pytest.mark.parametrize("case", WRONG, ids=lambda case: f"{case[0][0].__name__}-{next(iter(case[1]))}-{case[-1]}")
def test_wrong_arguments_of_the_functions(case, monkeypatch):
    (function, right), wrong, error, *words = case
    monkeypatch.setattr("spf_kernels.functional.ops.encode", None)
    monkeypatch.setattr("spf_kernels.functional.ops.decode", None)
    monkeypatch.setattr("spf_kernels.functional.ops.reconstruct", None)
    with pytest.raises(error) as raised:
        function(**{**right, **wrong})
    for word in words:
        assert word in str(raised.value)


@pytest.mark.parametrize(
    ("maps", "weight"),
    [(BF16, F16), (F16, BF16), (F64, F32), (F32, F64), (F64, BF16), (BF16, F64), (F16, F64)],
    ids=str,
)
def test_dtypes_that_do_not_go_together(maps, weight):
    with pytest.raises(TypeError, match=rf"weight must have the dtype of maps \({maps}\).* got {weight}"):
        spf_flatten(_zeros(B, C, S, dtype=maps), _zeros(C, D, S, dtype=weight))


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool], ids=str)
def test_integers_are_refused_under_autocast_too(dtype):
    with torch.autocast("cpu", dtype=BF16), pytest.raises(TypeError, match=f"got {dtype}"):
        spf_flatten(_zeros(B, C, S, dtype=dtype), _zeros(C, D, S))


@pytest.mark.parametrize("shape", [(B, C, 6, 5), (B, C, 3, 10), (B, C, 5, 5)])
def test_maps_of_another_size_with_as_many_pixels_are_refused(shape):
    message = re.escape(f"maps must be (5, 6) in height and width, got {shape[2:]}")
    with pytest.raises(ValueError, match=message):
        SPFFlatten(C, (5, 6), D)(_zeros(*shape))
    with pytest.raises(ValueError, match=message):
        SPFAutoencoder(C, (5, 6), D)(_zeros(*shape))


@pytest.mark.parametrize("layer", [SPFFlatten, SPFDecoder, SPFAutoencoder])
@pytest.mark.parametrize("argument", ["num_maps", "map_size", "code_size"])
@pytest.mark.parametrize(
    "value", [0, -1, True, False, 2.0, "7", None, (3,), (3, 0), (0, 3), (True, 3), (1, 2, 3), (2.5, 3)]
)
def test_sizes_that_are_no_positive_integers(layer, argument, value):
    arguments = {"num_maps": C, "map_size": 5, "code_size": D, argument: value}
    with pytest.raises((ValueError, TypeError), match=f"{argument} must be"):
        layer(**arguments)


@pytest.mark.parametrize("layer", [SPFFlatten, SPFDecoder, SPFAutoencoder])
def test_unknown_activations_of_the_modules(layer):
    with pytest.raises(ValueError, match=r"activation must be None or one of .* got 'swish'"):
        layer(C, 5, D, activation="swish")


def test_unknown_options_of_the_autoencoder():
    with pytest.raises(ValueError, match=r"reduction must be one of .* got 'max'"):
        SPFAutoencoder(C, 5, D, reduction="max")
    with pytest.raises(ValueError, match=r"activation must be .* got 'exp'"):
        SPFAutoencoder(C, 5, D, decoder_activation="exp")


@pytest.mark.parametrize("value", [-1, -(2**40)])
def test_negative_cache_limit(value):
    with pytest.raises(ValueError, match=f"num_bytes must be at least 0, got {value}"):
        spf_kernels.set_cache_limit(value)


@pytest.mark.parametrize("name", ["", "cuda", "Native", None])
def test_unknown_backend(name):
    known = "'auto', 'native', 'triton', 'reference'"
    with pytest.raises(ValueError, match=f"backend must be one of .*{known}.* got {name!r}"):
        spf_kernels.use_backend(name)
