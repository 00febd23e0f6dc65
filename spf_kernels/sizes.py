"""Checks of the sizes that people give: maps, pixels, codes."""

import math
import operator
from collections.abc import Sequence
from typing import Any


def check_positive(name: str, value: Any) -> int:
    """The value as an int.

    Raises:
        ValueError: No integer, or one below 1.
    """
    try:
        # numpy's integers too, but no bool and no float
        number = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")
    return number


def check_map_size(map_size: int | Sequence[int], name: str = "map_size") -> tuple[int, int]:
    """(height, width); one integer means a square.

    Raises:
        ValueError: Something else than one or two positive integers.
    """
    sizes = tuple(map_size) if isinstance(map_size, Sequence) else (map_size, map_size)
    if len(sizes) != 2:
        raise ValueError(f"{name} must be an integer or (height, width), got {map_size!r}")
    return check_positive(name, sizes[0]), check_positive(name, sizes[1])


def square_of(pixels: int) -> tuple[int, int]:
    """(side, side) of a square map.

    Raises:
        ValueError: Pixels that make no square.
    """
    side = math.isqrt(pixels)
    if side * side != pixels:
        raise ValueError(f"map_size must be given: {pixels} pixels are not a square")
    return side, side
