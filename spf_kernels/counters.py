"""Counts what a user should know about and would not see: hidden copies, dense gradients, bytes sent to other ranks."""

from collections import Counter

_counts: Counter[str] = Counter()


def count(event: str, number: int = 1) -> None:
    """Counts occurrences of `event`, or bytes."""
    _counts[event] += number


def counters() -> dict[str, int]:
    """What the library had to do unasked since the start or since `reset_counters`.

    Returns:
        Occurrences by event: "maps copied: ..." where the pixels of a map were not contiguous, "gradient copied: ..."
        where those of an upstream gradient were not (a compiled graph's maps too), "weight copied: ..." and
        "bias copied: ..." where a parameter was not contiguous; "codes copied: ..." on a GPU where codes were not;
        "... stages: ... bytes of shared memory wanted" where a kernel needed more than the GPU has; "factored
        gradient materialised: ..." where a factored gradient had to be made dense. And bytes: "bytes sent: ..." to
        other ranks, see `spf_kernels.distributed`.
    """
    return dict(_counts)


def reset_counters() -> None:
    """Sets all counts of `counters` to zero."""
    _counts.clear()
