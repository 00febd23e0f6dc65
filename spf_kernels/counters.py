"""Counts what a user should know about and would not see: hidden copies, by what was copied and why."""

from collections import Counter

_counts: Counter[str] = Counter()


def count(event: str) -> None:
    """Counts one occurrence of `event`."""
    _counts[event] += 1


def counters() -> dict[str, int]:
    """Copies the library had to make since the start or since `reset_counters`.

    Returns:
        Occurrences by event: "maps copied: ..." where the pixels of a map were not contiguous, "gradient copied: ..."
        where those of an upstream gradient were not (a compiled graph's maps too), "weight copied: ..." and
        "bias copied: ..." where a parameter was not contiguous.
    """
    return dict(_counts)


def reset_counters() -> None:
    """Sets all counts of `counters` to zero."""
    _counts.clear()
