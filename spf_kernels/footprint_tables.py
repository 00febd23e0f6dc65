"""The tables of `python -m spf_kernels memory`."""

import argparse
from collections.abc import Iterable, Sequence
from itertools import product

from spf_kernels.footprint import CARDS_GB, Footprint, Training, break_even_batch, footprints

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--maps", type=int, default=128, help="feature maps, C (%(default)s)")
    parser.add_argument(
        "--map-size", nargs="+", default=["64"], metavar="N|HxW", help="pixels of a map: 64, or 64x48; several compare"
    )
    parser.add_argument("--code-size", type=int, nargs="+", default=[128], help="D (128); several compare")
    parser.add_argument("--batch", type=int, default=12, help="samples of one rank, B (%(default)s)")
    parser.add_argument("--autoencoder", action="store_true", help="with decoders and their loss, not encoders alone")
    parser.add_argument("--dtype", choices=_BYTES, default="float32", help="of weights and maps (%(default)s)")
    parser.add_argument(
        "--state-dtype", choices=("float32", "bfloat16"), help="of our NAdam's momentum and variance (--dtype)"
    )
    parser.add_argument("--ranks", type=int, default=8, help="that share the maps in the sharded mode (%(default)s)")


def tables(arguments: argparse.Namespace) -> str:
    """What the command prints.

    Args:
        arguments: Of `add_arguments`.

    Raises:
        ValueError: A size that is none.
    """
    state_dtype = arguments.state_dtype or arguments.dtype
    element_bytes, state_bytes = _BYTES[arguments.dtype], _BYTES[state_dtype]
    trainings = {
        (map_size, code_size): Training(
            arguments.maps,
            _pixels(map_size),
            code_size,
            arguments.batch,
            arguments.autoencoder,
            element_bytes,
            state_bytes,
        )
        for map_size, code_size in product(arguments.map_size, arguments.code_size)
    }
    kind = "auto-encoders" if arguments.autoencoder else "encoders alone"
    head = (
        f"{arguments.maps} maps, batch {arguments.batch}, {kind}, {arguments.dtype}, momentum and variance in "
        f"{state_dtype}. GB are 10^9 bytes."
    )
    if len(trainings) > 1:
        return f"{head} In brackets the smallest card that holds it.\n\n{_overview(trainings, arguments.ranks)}"
    ((map_size, code_size), training) = next(iter(trainings.items()))
    return (
        f"{head}\nMaps of {map_size}, codes of {code_size}: {training.weights / 1e6:.0f} million weights.\n\n"
        f"{_detail(training, arguments.ranks)}\n\nFactors are as large as the gradient from a batch of "
        f"{break_even_batch(code_size, training.pixels)} on."
    )


def _pixels(map_size: str) -> int:
    """Of "64" or "64x48"."""
    sides = map_size.split("x")
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise ValueError(f"map-size must be a number or HEIGHTxWIDTH, got {map_size!r}")
    return int(sides[0]) * int(sides[-1])


def _detail(training: Training, ranks: int) -> str:
    """One mode a line."""
    rows = []
    for found in footprints(training, ranks):
        parts = (found.weights, found.gradients, found.state, found.maps, found.temporary, found.total)
        rows.append([found.mode, *(_gb(part) for part in parts), _cards(found)])
    parts_in_words = ("weights", "gradient or factors", "momentum, variance", "maps, codes", "temporary", "total")
    return _table(["mode", *(f"{part}, GB" for part in parts_in_words), "fits cards of GB"], rows)


def _overview(trainings: dict[tuple[str, int], Training], ranks: int) -> str:
    """One size a line, one mode a column."""
    rows = []
    for (map_size, code_size), training in trainings.items():
        found = footprints(training, ranks)
        rows.append([map_size, str(code_size), *(f"{_gb(one.total)} ({_smallest_card(one)})" for one in found)])
    return _table(["map", "code", *(one.mode for one in found)], rows)


def _gb(num_bytes: int) -> str:
    number = num_bytes / 1e9
    return f"{number:.2f}" if number < 10 else f"{number:.1f}" if number < 100 else f"{number:.0f}"


def _cards(found: Footprint) -> str:
    cards = found.cards()
    return "all" if len(cards) == len(CARDS_GB) else ", ".join(map(str, cards)) or "none"


def _smallest_card(found: Footprint) -> str:
    return str(min(found.cards(), default="none"))


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
