"""The kernels in Triton: GPUs, float32, bfloat16 and float16. Same functions and arguments as `reference`.

Sums are in fp32, in an order that depends on the sizes and the kind of card alone. Under TRITON_INTERPRET=1 the
kernels take CPU tensors, slowly: that is how they are tested where there is no GPU.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor
from triton import OutOfResources, cdiv, knobs

from spf_kernels.backends.layouts import contiguous_in_place, contiguous_layer, contiguous_pixels
from spf_kernels.backends.triton import autotune
from spf_kernels.backends.triton.decode import decode_kernel
from spf_kernels.backends.triton.encode import encode_kernel, encode_sum_kernel
from spf_kernels.backends.triton.launch import NADAM, SUM_BLOCK, Card, Config, card_of, configure, precision_of
from spf_kernels.backends.triton.nadam import nadam_dense_kernel, nadam_factored_kernel
from spf_kernels.backends.triton.outer import outer_kernel
from spf_kernels.backends.triton.reconstruct import reconstruct_kernel, reconstruct_sum_kernel
from spf_kernels.counters import count

NAME = "triton"
INTERPRETED = knobs.runtime.interpret
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def unsupported(device: torch.device, *dtypes: torch.dtype) -> str | None:
    """Why this backend cannot take these arguments; None where it can."""
    if device.type not in (("cpu", "cuda", "xpu") if INTERPRETED else ("cuda", "xpu")):
        return f"device must be a GPU (or the CPU under TRITON_INTERPRET=1), got {device}"
    if device.type == "cuda" and not torch.version.hip and torch.cuda.get_device_capability(device) < (8, 0):
        return f"device must have compute capability 8.0 or more, got {torch.cuda.get_device_capability(device)}"
    for dtype in dtypes:
        if dtype not in _DTYPES:
            return f"dtypes must be float32, bfloat16 or float16, got {dtype}"
    return None


def _empty(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.empty(shape, dtype=dtype, device=device)


def _on(device: torch.device) -> AbstractContextManager[Any]:
    """Triton launches on the current device, whatever the tensors' is."""
    if device.type == "cuda" and device.index != torch.cuda.current_device():
        return torch.cuda.device(device)
    return nullcontext()


def _alignment(*lengths: int) -> int:
    """The largest power of two up to 16 that divides all lengths along pixels."""
    bits = 16
    for length in lengths:
        bits |= length
    return bits & -bits


def _stride(tensor: Tensor, dim: int) -> int:
    """The stride, 0 where it is never used: PyTorch leaves anything there."""
    return tensor.stride(dim) if tensor.shape[dim] > 1 else 0


def _maps(maps: Tensor) -> Tensor:
    """Maps whose pixels are contiguous and whose rows start on whole 16 bytes wherever a copy's would."""
    maps = contiguous_pixels(maps)
    S, vector = maps.shape[2], 16 // maps.itemsize
    if (_stride(maps, 0) % vector or _stride(maps, 1) % vector or maps.data_ptr() % 16) and S % vector == 0:
        count("maps copied: rows not 16 bytes aligned")
        return maps.clone(memory_format=torch.contiguous_format)
    return maps


def _in_units(maps: Tensor) -> tuple[int, int, int, int]:
    """The unit of lengths along pixels; in it: S, and the strides of batch and maps."""
    lengths = (maps.shape[2], _stride(maps, 0), _stride(maps, 1))
    unit = _alignment(*lengths)
    pixels, stride_b, stride_c = (length // unit for length in lengths)
    return unit, pixels, stride_b, stride_c


def _codes(codes: Tensor) -> Tensor:
    if codes.stride(2) != 1 and codes.shape[2] > 1:
        count(f"codes copied: stride {codes.stride(2)}")
        return codes.contiguous()
    return codes


def _config(
    kernel: str, card: Card, precision: str, itemsize: int, sizes: tuple[int, int, int, int], call: Callable[[], object]
) -> Config:
    key = (kernel, card, precision, itemsize, *sizes)
    return autotune.choose(key, call) if autotune.ENABLED else configure(*key)


def _launch(kernel: Any, programs: int, arguments: tuple[Any, ...], constants: dict[str, Any], config: Config) -> None:
    """Launches; with fewer stages, counted, where a Triton the tables do not know needs more shared memory."""
    if not programs:
        return
    for stages in range(config.stages, 0, -1):
        options = {"num_warps": config.warps, "num_stages": stages, "enable_fp_fusion": True}
        try:
            kernel[(programs,)](*arguments, **constants, **options)
        except OutOfResources as error:
            # raised before anything runs; a search goes on with the next configuration
            if error.name != "shared memory" or stages == 1 or autotune.searching():
                raise
            count(f"{kernel.fn.__name__} with {stages - 1} stages: {error.required} bytes of shared memory wanted")
        else:
            return


def _encode(maps: Tensor, weight: Tensor, bias: Tensor | None, activation: str, dtype: torch.dtype) -> Tensor:
    (B, C, S), D = maps.shape, weight.shape[1]
    card = card_of(maps.device)
    precision = precision_of(card, maps.dtype, weight.dtype)
    again = partial(_encode, maps, weight, bias, activation, dtype)
    config = _config("encode", card, precision, weight.itemsize, (B, C, D, S), again)
    codes = _empty((B, C, D), dtype, maps.device)
    parts = codes if config.parts == 1 else _empty((config.parts, B, C, D), torch.float32, maps.device)
    unit, *lengths = _in_units(maps)
    constants = {"ACTIVATION": activation, "SPLITS": config.parts}
    tiles = {"BLOCK_B": config.block_b, "BLOCK_D": config.block_d, "BLOCK_S": config.block_s}
    programs = C * cdiv(B, config.block_b) * cdiv(D, config.block_d) * config.parts
    with _on(maps.device):
        _launch(
            encode_kernel,
            programs,
            (maps, weight, bias, parts, B, C, D, *lengths),
            {**constants, **tiles, "PRECISION": precision, "ALIGNMENT": unit},
            config,
        )
        if parts is not codes:
            programs = cdiv(codes.numel(), SUM_BLOCK)
            _launch(
                encode_sum_kernel, programs, (parts, bias, codes, B, C, D), {**constants, "BLOCK": SUM_BLOCK}, config
            )
    return codes


def encode(maps: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    """See `reference.encode`."""
    return _encode(_maps(maps), *contiguous_layer(weight, bias), activation, maps.dtype)


def decode(codes: Tensor, weight: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    """See `reference.decode`."""
    codes, (weight, bias) = _codes(codes), contiguous_layer(weight, bias)
    (B, C, D), S = codes.shape, weight.shape[2]
    card = card_of(codes.device)
    precision = precision_of(card, codes.dtype, weight.dtype)
    again = partial(decode, codes, weight, bias, activation)
    config = _config("decode", card, precision, weight.itemsize, (B, C, D, S), again)
    maps = _empty((B, C, S), codes.dtype, codes.device)
    unit = _alignment(S)
    with _on(codes.device):
        _launch(
            decode_kernel,
            C * cdiv(B, config.block_b) * cdiv(S, config.parts * config.block_s),
            (codes, weight, bias, maps, B, C, D, S // unit, codes.stride(0), codes.stride(1)),
            {
                "ACTIVATION": activation,
                "PRECISION": precision,
                "ALIGNMENT": unit,
                "WHOLE_CODE": config.block_d >= D,
                "TILES": config.parts,
                "BLOCK_B": config.block_b,
                "BLOCK_D": config.block_d,
                "BLOCK_S": config.block_s,
            },
            config,
        )
    return maps


def outer(left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
    """See `reference.outer`."""
    left, right = _codes(left), _maps(right)
    (B, C, D), S = left.shape, right.shape[2]
    card = card_of(left.device)
    precision = precision_of(card, left.dtype, right.dtype)
    config = _config("outer", card, precision, dtype.itemsize, (B, C, D, S), partial(outer, left, right, dtype))
    out = _empty((C, D, S), dtype, left.device)
    unit, pixels, *strides = _in_units(right)
    with _on(left.device):
        _launch(
            outer_kernel,
            C * cdiv(D, config.block_d) * cdiv(S, config.block_s),
            (left, right, out, B, D, pixels, left.stride(0), left.stride(1), *strides),
            {
                "PRECISION": precision,
                "ALIGNMENT": unit,
                "BLOCK_B": config.block_b,
                "BLOCK_D": config.block_d,
                "BLOCK_S": config.block_s,
            },
            config,
        )
    return out


def reconstruct(
    codes: Tensor,
    maps: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    activation: str,
    with_error: bool,
    with_residual: bool,
    with_codes_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See `reference.reconstruct`."""
    codes, maps, (weight, bias) = _codes(codes), _maps(maps), contiguous_layer(weight, bias)
    (B, C, D), S, device = codes.shape, weight.shape[2], codes.device
    card = card_of(device)
    precision = precision_of(card, codes.dtype, maps.dtype, weight.dtype)
    wanted = (with_error, with_residual, with_codes_gradient)
    again = partial(reconstruct, codes, maps, weight, bias, activation, *wanted)
    config = _config("reconstruct", card, precision, weight.itemsize, (B, C, D, S), again)
    whole = config.block_d >= D
    here = with_codes_gradient and whole
    # the codes' gradient is made of the error before it is rounded to the maps' dtype
    encoded = with_codes_gradient and not whole
    error = _empty((B, C, S), torch.float32 if encoded else maps.dtype, device) if with_error or encoded else None
    residual = _empty((B, C, S), maps.dtype, device) if with_residual else None
    loss = _empty((B,), torch.float32, device)
    gradient = _empty((B, C, D), torch.float32, device) if here else None
    split = here and config.parts > 1
    parts_of_loss = _empty((B, C, config.parts), torch.float32, device)
    parts_of_gradient = _empty((config.parts, B, C, D), torch.float32, device) if split else gradient
    unit, pixels, *strides = _in_units(maps)
    outputs = (parts_of_loss, error, residual, parts_of_gradient)
    with _on(device):
        _launch(
            reconstruct_kernel,
            C * cdiv(B, config.block_b) * config.parts,
            (codes, maps, weight, bias, *outputs, B, C, D, pixels, codes.stride(0), codes.stride(1), *strides),
            {
                "ACTIVATION": activation,
                "PRECISION": precision,
                "ALIGNMENT": unit,
                "WHOLE_CODE": whole,
                "CHUNKS": config.parts,
                "BLOCK_B": config.block_b,
                "BLOCK_D": config.block_d,
                "BLOCK_S": config.block_s,
            },
            config,
        )
        elements = B * C * D if split else 0
        _launch(
            reconstruct_sum_kernel,
            B + cdiv(elements, SUM_BLOCK),
            (parts_of_loss, parts_of_gradient, loss, gradient, B, elements, C * config.parts),
            {"CHUNKS": config.parts, "BLOCK": SUM_BLOCK},
            config,
        )
    if error is not None and encoded:
        gradient = _encode(error, weight, None, "none", torch.float32)
    nothing = maps.new_empty(0)
    return (
        loss,
        nothing if error is None or not with_error else error.to(maps.dtype),
        nothing.clone() if residual is None else residual,
        codes.new_empty(0, dtype=torch.float32) if gradient is None else gradient,
    )


def _numbers(beta1: float, beta2: float, *step: float) -> tuple[tuple[float, ...], dict[str, bool]]:
    """The kernels' numbers and constants from the functions' arguments."""
    *numbers, bias_correction2, maximize, noise_key = step
    # as an int32, whatever its value: one kernel for all of them
    key = int(noise_key) - (1 << 32) * (noise_key >= 1 << 31)
    return (1 - beta1, 1 - beta2, *numbers, 1 / bias_correction2, key), {"MAXIMIZE": bool(maximize)}


def nadam_factored_(
    weight: Tensor, momentum: Tensor, variance: Tensor, left: Tensor, right: Tensor, *step: float
) -> None:
    """See `reference.nadam_factored_`."""
    left, right = _codes(left), _maps(right)
    (B, C, D), S = left.shape, right.shape[2]
    numbers, constants = _numbers(*step)
    unit, pixels, *strides = _in_units(right)
    with contiguous_in_place(weight, momentum, variance) as arrays, _on(weight.device):
        _launch(
            nadam_factored_kernel,
            C * cdiv(D, NADAM.block_d) * cdiv(S, NADAM.block_s),
            (*arrays, left, right, B, D, pixels, left.stride(0), left.stride(1), *strides, *numbers),
            {**constants, "ALIGNMENT": unit, "BLOCK_D": NADAM.block_d, "BLOCK_S": NADAM.block_s},
            NADAM,
        )


def nadam_dense_(weight: Tensor, momentum: Tensor, variance: Tensor, gradient: Tensor, *step: float) -> None:
    """See `reference.nadam_dense_`."""
    numbers, constants = _numbers(*step)
    block, unit = NADAM.block_d * NADAM.block_s, _alignment(weight.numel())
    with contiguous_in_place(weight, momentum, variance) as arrays, _on(weight.device):
        _launch(
            nadam_dense_kernel,
            cdiv(weight.numel(), block),
            (*arrays, gradient.contiguous(), weight.numel() // unit, *numbers),
            {**constants, "ALIGNMENT": unit, "BLOCK": block},
            NADAM,
        )
