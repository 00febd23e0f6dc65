"""Counts what a user should know about and would not see: hidden copies, by what was copied and why."""

from collections import Counter

_counts: Counter[str] = Counter()


def count(event: str) -> None:
    """Counts one occurrence of `event`."""
    _counts[event] += 1


def counters() -> dict[str, int]:
    """Copies the library had to make since the start or since `reset_counters`.

    Returns:
        Occurrences by event: "maps copied: ..." where maps of shape (B, C, H, W) could not be read in place,
        "weight copied: ..." where a weight was not contiguous. Not counted inside a compiled graph.
    """
    return dict(_counts)


def reset_counters() -> None:
    """Sets all counts of `counters` to zero."""
    _counts.clear()
