"""One process at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm


class LockedError(OSError):
    """Another process holds the lock."""


@contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[None]:
    """Hold a lock on `path` within the block; the system gives it back however the process ends.

    Args:
        path: A file for the lock alone. It stays: deleting it would let two processes lock two files of one name.
        wait: For a process that holds the lock, however long, or raise.

    Raises:
        LockedError: If another process holds the lock and `wait` is not set.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        # Not flock: forked workers would inherit it and, for as long as they outlive a killed parent, keep it.
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if not wait:
                raise LockedError(f"another process is at work on it (it holds {path}): try again later") from error
            tqdm.write(f"waiting for another process that holds {path}")
            fcntl.lockf(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
