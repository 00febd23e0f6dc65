"""What encoders and decoders start as: random as `nn.Linear`, averages over a grid of cells, or a DCT.

A start is the first rows of a map's weight (D, S), the same for every map. S = H * W pixels, D code size.
"""

import math
from collections.abc import Callable, Sequence
from itertools import product

import torch
from torch import Tensor, nn

from spf_kernels.sizes import check_map_size, check_positive

INITS = ("linear", "grid", "dct")


def check_init(init: str) -> str:
    """The name of the start.

    Raises:
        ValueError: An unknown one.
    """
    if init not in INITS:
        raise ValueError(f"init must be one of {INITS}, got {init!r}")
    return init


def encoder_start(init: str, map_size: tuple[int, int], code_size: int) -> Tensor:
    """The rows (R, S), float64, R <= D, that an encoder starts with by "grid" or "dct"."""
    if init == "grid":
        return grid_basis(map_size, code_size)
    return dct_basis(map_size, min(code_size, math.prod(map_size)))


def decoder_start(init: str, map_size: tuple[int, int], code_size: int) -> Tensor:
    """The rows (D, S), float64, that give back what `encoder_start` keeps of a map; 0 for codes beyond its rows."""
    # decoders are stored (codes, pixels) too, so the transpose that inverts an orthonormal basis is that basis
    rows = _over_grid(map_size, code_size, _paint) if init == "grid" else encoder_start(init, map_size, code_size)
    return nn.functional.pad(rows, (0, 0, 0, code_size - rows.shape[0]))


def dct_basis(map_size: int | Sequence[int], code_size: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """The lowest frequencies of the orthonormal two-dimensional DCT-II of a map.

    Frequency (u, v) along height and width is max(u / H, v / W) high; lower ones come first. Of equally high ones the
    smaller u / H + v / W comes first, and then the smaller u. So D = k * k of a square map are the k x k lowest ones,
    and D rows are the first D of any longer basis.

    Args:
        map_size: H x W, one integer for square maps.
        code_size: D, at most H * W.
        dtype: Of the result, a floating-point one.

    Returns:
        (D, H*W) on the CPU, orthonormal rows: `basis @ map` are the codes, `codes @ basis` their best reconstruction.

    Raises:
        ValueError: A size below 1, a code size above H * W.
        TypeError: A dtype that is not floating point.
    """
    H, W = check_map_size(map_size)
    D = check_positive("code_size", code_size)
    _check_floating(dtype)
    if D > H * W:
        raise ValueError(f"code_size must be at most the map's {H * W} pixels, got {code_size}")
    # (u, 0) comes after u lower ones and (0, v) after v
    frequencies = product(range(min(H, D)), range(min(W, D)))
    lowest = sorted(frequencies, key=lambda uv: (max(uv[0] * W, uv[1] * H), uv[0] * W + uv[1] * H, uv[0]))[:D]
    u, v = torch.tensor(lowest, device="cpu").unbind(1)
    waves = _cosines(H, u)[:, :, None] * _cosines(W, v)[:, None, :]
    return waves.flatten(1).to(dtype)


def grid_size(map_size: int | Sequence[int], code_size: int) -> tuple[int, int]:
    """The grid of at most D cells that `grid_basis` averages over.

    The number of rows is that of square cells, rounded down; then there are as many columns as D allows. No cell is
    smaller than a pixel. D = g * g cells of a square map are g x g.

    Args:
        map_size: H x W, one integer for square maps.
        code_size: D.

    Returns:
        (rows, columns).

    Raises:
        ValueError: A size below 1.
    """
    H, W = check_map_size(map_size)
    D = check_positive("code_size", code_size)
    rows = min(max(1, math.isqrt(D * H // W)), H, D)
    return rows, min(W, D // rows)


def grid_basis(map_size: int | Sequence[int], code_size: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """The averages over a grid of cells, as `nn.AdaptiveAvgPool2d(grid_size(map_size, code_size))` takes them.

    Where the grid does not divide the map, cells overlap by one pixel, as in `nn.AdaptiveAvgPool2d`.

    Args:
        map_size: H x W, one integer for square maps.
        code_size: D.
        dtype: Of the result, a floating-point one.

    Returns:
        (cells, H*W) on the CPU, row by row of the grid; cells <= D, see `grid_size`.

    Raises:
        ValueError: A size below 1.
        TypeError: A dtype that is not floating point.
    """
    _check_floating(dtype)
    return _over_grid(check_map_size(map_size), code_size, _average).to(dtype)


def _over_grid(map_size: tuple[int, int], code_size: int, one_axis: Callable[[Tensor], Tensor]) -> Tensor:
    """(cells, S) from what each axis does with its cells (cells, pixels)."""
    axes = zip(grid_size(map_size, code_size), map_size, strict=True)
    along_height, along_width = (one_axis(_cells(cells, pixels)) for cells, pixels in axes)
    return torch.kron(along_height, along_width)


def _cells(cells: int, pixels: int) -> Tensor:
    """(cells, pixels): 1 where a pixel of an axis is in a cell, the ranges of `nn.AdaptiveAvgPool1d`."""
    cell = torch.arange(cells, device="cpu")[:, None]
    pixel = torch.arange(pixels, device="cpu")
    first, last = cell * pixels // cells, -(-(cell + 1) * pixels // cells) - 1
    return ((pixel >= first) & (pixel <= last)).double()


def _average(cells: Tensor) -> Tensor:
    return cells / cells.sum(1, keepdim=True)


def _paint(cells: Tensor) -> Tensor:
    """A cell's value on its pixels; where cells overlap, their mean."""
    return cells / cells.sum(0)


def _cosines(pixels: int, frequencies: Tensor) -> Tensor:
    """(frequencies, pixels): vectors of the orthonormal DCT-II of one axis."""
    positions = 2 * torch.arange(pixels, dtype=torch.float64, device="cpu") + 1
    scale = torch.where(frequencies == 0, 1.0, 2.0).double() / pixels
    return scale.sqrt()[:, None] * torch.cos(frequencies[:, None] * positions * (math.pi / (2 * pixels)))


def _check_floating(dtype: torch.dtype) -> None:
    if not dtype.is_floating_point:
        raise TypeError(f"dtype must be a floating-point one, got {dtype}")
