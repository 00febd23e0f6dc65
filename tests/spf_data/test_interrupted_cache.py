"""Caching that is killed, meets a full disk, or another process that caches."""

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from spf_data.image_cache import ImageCache, caching, writing
from spf_data.image_cache.layout import KEY, SOURCES, STATUS, create
from spf_data.image_cache.lock import LockedError, locked

from tests.spf_data.manifests import CACHE_SIZE as SIZE
from tests.spf_data.manifests import bytes_of, make_cache, make_images, save_image, write

PYTHON = Path(__file__).resolve().parents[2] / "python"
TRACED = str(PYTHON / "spf_data" / "image_cache")


def _in_child(work, kill_at=None):
    """Runs `work` in a forked child, which kills itself at the `kill_at`-th line of the package; how it ended."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    lines = 0

    def trace(frame, event, _):
        nonlocal lines
        if not frame.f_code.co_filename.startswith(TRACED):
            return None
        lines += event == "line"
        if lines == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    try:
        sys.settrace(trace)
        work()
        sys.settrace(None)
        if kill_at is None:
            # How many lines there are.
            Path(os.environ["LINES_FILE"]).write_text(str(lines))
        os._exit(0)
    except BaseException:
        os._exit(1)


def test_a_run_killed_at_any_line_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    manifest = make_images(tmp_path, 20, unreadable=(3, 11))
    monkeypatch.setattr(writing, "_ROWS_A_COMMIT", 4)
    monkeypatch.setattr(caching, "_LOT", 3)
    monkeypatch.setenv("LINES_FILE", str(tmp_path / "lines"))
    assert _in_child(lambda: make_cache(tmp_path / "whole", manifest, tmp_path)) == 0
    expected, lines = bytes_of(tmp_path / "whole"), int((tmp_path / "lines").read_text())
    random = np.random.default_rng(6)
    resumed = 0
    for run in range(12):
        folder = tmp_path / f"killed-{run}"
        # Each is killed three times.
        for kill_at in random.integers(1, lines, 3).tolist():
            killed = _in_child(lambda folder=folder: make_cache(folder, manifest, tmp_path), kill_at)
            assert killed in (0, -signal.SIGKILL)
        if (folder / KEY).exists():
            resumed += 0 < np.count_nonzero(np.load(folder / STATUS)) < 20
        make_cache(folder, manifest, tmp_path)
        assert bytes_of(folder) == expected
    assert resumed >= 3
    assert not list(tmp_path.glob(".*new"))


def test_rows_are_marked_only_when_their_data_are_on_the_disk(tmp_path, monkeypatch):
    events = []
    pwrite, fsync = os.pwrite, os.fsync
    names = {}

    def record(what, function):
        def call(descriptor, *arguments):
            name = names.setdefault(descriptor, Path(f"/proc/self/fd/{descriptor}").readlink().name)
            events.append((what, name))
            return function(descriptor, *arguments)

        return call

    manifest = make_images(tmp_path, 8)
    create(tmp_path / "cache", caching.key_of(manifest, SIZE))
    monkeypatch.setattr(writing, "_ROWS_A_COMMIT", 8)
    monkeypatch.setattr(os, "pwrite", record("write", pwrite))
    monkeypatch.setattr(os, "fsync", record("sync", fsync))
    make_cache(tmp_path / "cache", manifest, tmp_path)
    first_mark = events.index(("write", STATUS))
    data = [index for index, event in enumerate(events) if event == ("write", "images.npy")]
    assert len(data) == 8
    assert max(data) < events.index(("sync", "images.npy")) < first_mark
    assert events.index(("sync", SOURCES)) < first_mark
    assert events[first_mark + 8] == ("sync", STATUS)


def test_a_script_killed_with_its_workers_alive_goes_on(tmp_path):
    manifest = make_images(tmp_path, 40)
    for image in manifest.column("image"):
        save_image(tmp_path / image, 1, size=(900, 700))
    make_cache(tmp_path / "whole", manifest, tmp_path)
    path = write(tmp_path / "m.parquet", manifest)
    options = {"--root": tmp_path, "--manifest": path, "--cache": tmp_path / "cache", "--image-size": SIZE}
    arguments = [str(part) for pair in options.items() for part in pair]
    command = [sys.executable, str(PYTHON / "cache_images.py"), *arguments, "--workers", "2"]
    script = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(PYTHON), "OMP_NUM_THREADS": "1"})
    status = tmp_path / "cache" / "cache.json"
    while not status.exists():
        assert script.poll() is None
        time.sleep(0.01)
    time.sleep(np.random.default_rng(2).uniform(0.05, 0.3))
    script.kill()
    script.wait()
    # At once: workers that outlive the script must not hold its lock.
    make_cache(tmp_path / "cache", manifest, tmp_path)
    assert bytes_of(tmp_path / "cache") == bytes_of(tmp_path / "whole")


def test_too_small_a_disk_is_an_error_before_work(tmp_path, monkeypatch):
    manifest = make_images(tmp_path, 2)
    monkeypatch.setattr(caching.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 2 * SIZE**2 - 1}))
    with pytest.raises(OSError, match="GB more") as caught:
        make_cache(tmp_path / "cache", manifest, tmp_path)
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert len(make_cache(tmp_path / "cache", manifest, tmp_path)) == 2


def test_a_disk_that_fills_up_is_an_error_and_the_cache_goes_on(tmp_path, monkeypatch):
    manifest = make_images(tmp_path, 20)
    make_cache(tmp_path / "whole", manifest, tmp_path)
    monkeypatch.setattr(writing, "_ROWS_A_COMMIT", 4)
    pwrite, calls = os.pwrite, iter(range(1000))

    def full(descriptor, content, offset):
        if next(calls) > 120:
            raise OSError(errno.ENOSPC, "No space left on device")
        # A disk that is nearly full takes a part.
        return pwrite(descriptor, content[: max(1, len(content) // 2)], offset)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space left"):
        make_cache(tmp_path / "cache", manifest, tmp_path)
    monkeypatch.undo()
    assert 0 < np.count_nonzero(np.load(tmp_path / "cache" / STATUS)) < 20
    with pytest.raises(ValueError, match="is not finished"):
        ImageCache(tmp_path / "cache")
    make_cache(tmp_path / "cache", manifest, tmp_path)
    assert bytes_of(tmp_path / "cache") == bytes_of(tmp_path / "whole")


def test_a_real_limit_on_files_is_an_error_too(tmp_path):
    """The kernel's own error, in a child whose files may not grow."""
    manifest = make_images(tmp_path, 20)

    def work():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            make_cache(tmp_path / "cache", manifest, tmp_path)
        except OSError as error:
            os._exit(7 if error.errno == errno.EFBIG else 8)

    assert _in_child(work, kill_at=-1) == 7
    assert len(make_cache(tmp_path / "cache", manifest, tmp_path)) == 20


def test_two_processes_do_not_cache_at_once(tmp_path):
    manifest = make_images(tmp_path, 2)
    folder = tmp_path / "cache"

    def compete():
        with pytest.raises(LockedError, match="another process is at work"):
            make_cache(folder, manifest, tmp_path)

    with locked(tmp_path / "cache.lock", wait=False):
        assert _in_child(compete, kill_at=-1) == 0
    assert not folder.exists()
    assert len(make_cache(folder, manifest, tmp_path)) == 2


def test_the_second_process_can_wait(tmp_path):
    manifest = make_images(tmp_path, 3)
    folder = tmp_path / "cache"
    read, write_end = os.pipe()
    child = os.fork()
    if not child:
        with locked(tmp_path / "cache.lock", wait=False):
            os.write(write_end, b"x")
            time.sleep(0.3)
            # Without giving anything back itself.
            os._exit(0)
    os.read(read, 1)
    started = time.monotonic()
    assert len(make_cache(folder, manifest, tmp_path, wait=True)) == 3
    assert time.monotonic() - started > 0.1
    os.waitpid(child, 0)


def test_a_finished_cache_needs_no_lock(tmp_path):
    manifest = make_images(tmp_path, 2)
    make_cache(tmp_path / "cache", manifest, tmp_path)
    (tmp_path / "cache.lock").unlink()
    make_cache(tmp_path / "cache", manifest, tmp_path)
    assert not (tmp_path / "cache.lock").exists()
