"""The cache of large CPU output buffers: gradients and the like are recycled, not returned to the system."""

from spf_kernels.backends import native


def empty_cache() -> None:
    """Returns all buffers that no tensor uses to the system. Does nothing where the native backend never ran."""
    if native.loaded() is not None:
        native.extension().empty_cache()


def set_cache_limit(num_bytes: int) -> None:
    """Sets how many bytes of unused buffers are kept; 2 GiB at the start, or SPF_CACHE_LIMIT_MB.

    Args:
        num_bytes: 0 keeps nothing.

    Raises:
        ValueError: A negative number.
        spf_kernels.NativeUnavailableError: There is no native backend.
    """
    if num_bytes < 0:
        raise ValueError(f"num_bytes must be at least 0, got {num_bytes}")
    native.extension().set_cache_limit(num_bytes)


def cache_statistics() -> dict[str, int]:
    """The cache's state.

    Returns:
        "cached_bytes" kept unused, "used_bytes" in tensors, "limit_bytes", "hits" and "misses" since the start; empty
        where the native backend never ran.
    """
    return {} if native.loaded() is None else dict(native.extension().cache_statistics())
