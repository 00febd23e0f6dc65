"""Splits by patient that stay the same when images are added."""

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

PARTS = ("train", "validation", "test")

# What public data sets call their parts.
_OWN_NAMES = {
    "train": "train",
    "validation": "validation",
    "validate": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}


def grouped_split(
    groups: Sequence[str] | npt.NDArray[np.str_],
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2),
    seed: int = 0,
) -> dict[str, npt.NDArray[np.int64]]:
    """Split rows into train, validation and test, all rows of a group (patient) together.

    Each group is placed by a hash of its own name, so it stays where it is when other rows come or go. The price is
    that the fractions are met only on average: by about 1 / sqrt(number of groups).

    Args:
        groups: Name of the group of each row (N,).
        fractions: Expected share of the groups in train, validation and test; not negative, summing to 1.
        seed: Another seed gives another split.

    Returns:
        Row numbers (int64, ascending) under "train", "validation" and "test". A part is empty only where its fraction
        is 0.

    Raises:
        ValueError: If there are no rows, a group has no name, the fractions are invalid, or a part that should hold
            rows holds none.
    """
    names = [str(group) for group in groups]
    if not names:
        raise ValueError("groups must not be empty, got 0 rows")
    if "" in names:
        raise ValueError(f"groups must not be empty strings, got one in row {names.index('')}")
    if len(fractions) != 3 or not all(0 <= fraction <= 1 for fraction in fractions):
        raise ValueError(f"fractions must be three numbers in [0, 1], got {fractions}")
    if not math.isclose(sum(fractions), 1, abs_tol=1e-6):
        raise ValueError(f"fractions must sum to 1, got {fractions} (sum {sum(fractions)})")

    positions = {name: _position(name, seed) for name in set(names)}
    # The sum of two fractions can round to just below 1, which must not fill a test part that is to be empty.
    bounds = [fractions[0], fractions[0] + fractions[1] if fractions[2] > 0 else 1.0]
    part_of_row = np.array([np.searchsorted(bounds, positions[name], side="right") for name in names])
    split = {part: np.flatnonzero(part_of_row == number) for number, part in enumerate(PARTS)}
    for part, fraction in zip(PARTS, fractions, strict=True):
        if fraction > 0 and len(split[part]) == 0:
            raise ValueError(f"{part} is empty: {len(positions)} groups are too few for fractions {fractions}")
    return split


def _position(name: str, seed: int) -> float:
    """A number in [0, 1) that depends on the seed and the name alone."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    # 53 bits are what a float holds exactly; more could round up to 1.
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def part_of_rows(split: dict[str, npt.NDArray[np.int64]]) -> list[str]:
    """The name of each row's part, from what `grouped_split` returns.

    Raises:
        ValueError: If a row is in no part or in two.
    """
    rows = np.concatenate(list(split.values())) if split else np.empty(0, dtype=np.int64)
    if not np.array_equal(np.sort(rows), np.arange(len(rows))):
        raise ValueError(f"split must hold each of {len(rows)} rows once")
    parts = np.empty(len(rows), dtype=object)
    for part, members in split.items():
        parts[members] = part
    return [str(part) for part in parts]


def own_split(groups: Sequence[str], parts: Sequence[str]) -> dict[str, npt.NDArray[np.int64]]:
    """The split that a data set brings along: rows under "train", "validation" and "test".

    Args:
        groups: Patient of each row (N,).
        parts: Part of each row (N,): "train", "test", or "validation", "validate", "valid", "val", "dev".

    Raises:
        ValueError: If the lengths differ, a part is unknown, or a patient is in two parts.
    """
    if len(groups) != len(parts):
        raise ValueError(f"groups and parts must be equally long, got {len(groups)} and {len(parts)}")
    unknown = sorted(set(parts) - set(_OWN_NAMES))
    if unknown:
        raise ValueError(f"parts must be among {sorted(_OWN_NAMES)}, got {unknown[:5]}")
    names = np.array([_OWN_NAMES[part] for part in parts], dtype=str)
    check_leakage(groups, names.tolist())
    return {part: np.flatnonzero(names == part) for part in PARTS}


def check_leakage(groups: Sequence[str], parts: Sequence[str]) -> None:
    """Refuse a split in which a patient is in two parts.

    Raises:
        ValueError: If one is; the message says how many, and names none.
    """
    part_of_group: dict[str, str] = {}
    leaking = {
        group for group, part in zip(groups, parts, strict=True) if part_of_group.setdefault(group, part) != part
    }
    if leaking:
        raise ValueError(f"the split leaks: {len(leaking)} of {len(part_of_group)} patients are in more than one part")


def split_hash(groups: Sequence[str], parts: Sequence[str]) -> str:
    """A fingerprint of who is in which part, for a checkpoint to remember what it was trained on.

    It depends on the set of (patient, part) pairs alone: not on the order of the rows, nor on how many a patient has.

    Args:
        groups: Patient of each row (N,).
        parts: Part of each row (N,).

    Returns:
        64 hexadecimal digits (SHA-256).
    """
    digest = hashlib.sha256()
    for group, part in sorted(set(zip(groups, parts, strict=True))):
        # Lengths first, so that no other pair of strings gives the same bytes.
        digest.update(f"{len(group)}:{group}{len(part)}:{part}".encode())
    return digest.hexdigest()
