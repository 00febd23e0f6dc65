import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from spf_data.image_cache import ImageCache, cache_images, caching, open_cache, writing
from spf_data.image_cache.layout import KEY, SOURCES, STATUS, CacheKey, create
from spf_data.image_cache.lock import LockedError, locked
from spf_data.images import read_image, square

from tests.spf_data.manifests import make_images, make_manifest, save_image, write

PYTHON = Path(__file__).resolve().parents[2] / "python"
SIZE = 12
TRACED = str(PYTHON / "spf_data" / "image_cache")


def _cache(folder, manifest, root, **options):
    return cache_images(folder, manifest, root, SIZE, progress=False, **options)


def _bytes(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


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


def test_every_image_is_read_squared_and_resized(tmp_path):
    manifest = make_images(tmp_path, 5)
    cache = _cache(tmp_path / "cache", manifest, tmp_path)
    for row, image in enumerate(manifest.column("image")):
        pixels = read_image(tmp_path / image)
        assert np.array_equal(cache.images[row], square(pixels, SIZE))
        assert tuple(cache.sources[row]) == (*pixels.shape, (tmp_path / image).stat().st_size)
    assert cache.images.dtype == np.uint8
    assert isinstance(cache.images, np.memmap)
    assert (len(cache), cache.image_size, cache.unreadable()) == (5, SIZE, [])


def test_unreadable_images_are_recorded_with_their_reasons(tmp_path):
    manifest = make_images(tmp_path, 6, unreadable=(1, 4))
    images = manifest.column("image")
    (tmp_path / images[2]).unlink()
    (tmp_path / images[3]).unlink()
    (tmp_path.parent / "outside.png").write_bytes((tmp_path / images[0]).read_bytes())
    (tmp_path / images[3]).symlink_to(tmp_path.parent / "outside.png")
    cache = _cache(tmp_path / "cache", manifest, tmp_path)
    assert cache.unreadable()[1:3] == [(2, "missing image"), (3, "path outside root")]
    assert [row for row, _ in cache.unreadable()] == [1, 2, 3, 4]
    assert sum(cache.unreadable_counts().values()) == 4
    assert cache.readable.tolist() == [True, False, False, False, False, True]
    assert not cache.images[1:5].any()


def test_workers_make_the_same_bytes(tmp_path):
    manifest = make_images(tmp_path, 21, unreadable=(7,))
    _cache(tmp_path / "one", manifest, tmp_path)
    _cache(tmp_path / "many", manifest, tmp_path, workers=2)
    assert _bytes(tmp_path / "one") == _bytes(tmp_path / "many")


def test_a_run_killed_at_any_line_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    manifest = make_images(tmp_path, 20, unreadable=(3, 11))
    monkeypatch.setattr(writing, "_ROWS_A_COMMIT", 4)
    monkeypatch.setattr(caching, "_LOT", 3)
    monkeypatch.setenv("LINES_FILE", str(tmp_path / "lines"))
    assert _in_child(lambda: _cache(tmp_path / "whole", manifest, tmp_path)) == 0
    expected, lines = _bytes(tmp_path / "whole"), int((tmp_path / "lines").read_text())
    random = np.random.default_rng(6)
    resumed = 0
    for run in range(12):
        folder = tmp_path / f"killed-{run}"
        # Each is killed three times.
        for kill_at in random.integers(1, lines, 3).tolist():
            killed = _in_child(lambda folder=folder: _cache(folder, manifest, tmp_path), kill_at)
            assert killed in (0, -signal.SIGKILL)
        if (folder / KEY).exists():
            resumed += 0 < np.count_nonzero(np.load(folder / STATUS)) < 20
        _cache(folder, manifest, tmp_path)
        assert _bytes(folder) == expected
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
    _cache(tmp_path / "cache", manifest, tmp_path)
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
    _cache(tmp_path / "whole", manifest, tmp_path)
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
    _cache(tmp_path / "cache", manifest, tmp_path)
    assert _bytes(tmp_path / "cache") == _bytes(tmp_path / "whole")


def test_what_is_cached_is_not_read_again(tmp_path, monkeypatch):
    manifest = make_images(tmp_path, 4, unreadable=(2,))
    before = _cache(tmp_path / "cache", manifest, tmp_path).images[:].copy()

    def refuse(*_):
        raise AssertionError("an image is read again")

    monkeypatch.setattr(caching, "read_image", refuse)
    assert np.array_equal(_cache(tmp_path / "cache", manifest, tmp_path).images, before)


def test_unreadable_images_are_tried_again_on_request(tmp_path):
    manifest = make_images(tmp_path, 4, unreadable=(2,))
    _cache(tmp_path / "cache", manifest, tmp_path)
    save_image(tmp_path / "images/002.png", 2)
    assert _cache(tmp_path / "cache", manifest, tmp_path).unreadable_counts()
    cache = _cache(tmp_path / "cache", manifest, tmp_path, retry=True)
    assert cache.unreadable() == []
    assert cache.images[2].any()


def test_another_manifest_or_size_or_reader_is_refused(tmp_path):
    manifest = make_images(tmp_path, 4)
    images = manifest.column("image")
    folder = tmp_path / "cache"
    _cache(folder, manifest, tmp_path)
    for other in (make_manifest(images[:3]), make_manifest(images[::-1])):
        with pytest.raises(ValueError, match=r"another cache, by the manifest's images \(it has 4, the manifest"):
            _cache(folder, other, tmp_path)
        with pytest.raises(ValueError, match="name another folder"):
            open_cache(folder, other, SIZE)
    with pytest.raises(ValueError, match=r"image_size \(it has 12, got 13\)"):
        cache_images(folder, manifest, tmp_path, 13)
    content = json.loads((folder / KEY).read_text())
    (folder / KEY).write_text(json.dumps(content | {"reader": "0"}))
    with pytest.raises(ValueError, match="the reader's version"):
        _cache(folder, manifest, tmp_path)


def test_other_labels_and_patients_use_the_same_cache(tmp_path):
    manifest = make_images(tmp_path, 3)
    _cache(tmp_path / "cache", manifest, tmp_path)
    other = make_manifest(
        manifest.column("image"), {"nodule": [1, 0, None]}, patient=["test:a"] * 3, split=["test"] * 3
    )
    assert len(open_cache(tmp_path / "cache", other, SIZE)) == 3


def test_images_of_another_root_are_refused(tmp_path):
    manifest = make_images(tmp_path / "here", 3)
    make_images(tmp_path / "there", 3)
    save_image(tmp_path / "there" / "images/001.png", 1, size=(50, 50))
    _cache(tmp_path / "cache", manifest, tmp_path / "here")
    with pytest.raises(ValueError, match=r"row 1 had .* bytes, has"):
        _cache(tmp_path / "cache", manifest, tmp_path / "there")
    with pytest.raises(FileNotFoundError, match="root must be the folder of the images"):
        _cache(tmp_path / "cache", manifest, tmp_path / "nowhere")


def test_a_root_without_any_of_the_images_is_refused(tmp_path):
    manifest = make_images(tmp_path / "here", 30)
    (tmp_path / "there").mkdir()
    with pytest.raises(FileNotFoundError, match="none of 16 is there"):
        _cache(tmp_path / "cache", manifest, tmp_path / "there")
    assert len(_cache(tmp_path / "cache", manifest, tmp_path / "here")) == 30


def test_a_manifest_of_unreadable_images_alone_is_refused(tmp_path):
    manifest = make_images(tmp_path, 2, unreadable=(0, 1))
    with pytest.raises(ValueError, match=r"no image could be read: \{'.*': 2\}"):
        _cache(tmp_path / "cache", manifest, tmp_path)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    manifest = make_images(tmp_path, 2)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "images.npy").write_bytes(b"precious")
    with pytest.raises(ValueError, match="must be a new or empty folder"):
        _cache(tmp_path / "mine", manifest, tmp_path)
    assert (tmp_path / "mine" / "images.npy").read_bytes() == b"precious"
    (tmp_path / "empty").mkdir()
    assert len(_cache(tmp_path / "empty", manifest, tmp_path)) == 2


def test_too_small_a_disk_is_an_error_before_work(tmp_path, monkeypatch):
    manifest = make_images(tmp_path, 2)
    monkeypatch.setattr(caching.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 2 * SIZE**2 - 1}))
    with pytest.raises(OSError, match="GB more") as caught:
        _cache(tmp_path / "cache", manifest, tmp_path)
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert len(_cache(tmp_path / "cache", manifest, tmp_path)) == 2


def test_a_disk_that_fills_up_is_an_error_and_the_cache_goes_on(tmp_path, monkeypatch):
    manifest = make_images(tmp_path, 20)
    _cache(tmp_path / "whole", manifest, tmp_path)
    monkeypatch.setattr(writing, "_ROWS_A_COMMIT", 4)
    pwrite, calls = os.pwrite, iter(range(1000))

    def full(descriptor, content, offset):
        if next(calls) > 120:
            raise OSError(errno.ENOSPC, "No space left on device")
        # A disk that is nearly full takes a part.
        return pwrite(descriptor, content[: max(1, len(content) // 2)], offset)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space left"):
        _cache(tmp_path / "cache", manifest, tmp_path)
    monkeypatch.undo()
    assert 0 < np.count_nonzero(np.load(tmp_path / "cache" / STATUS)) < 20
    with pytest.raises(ValueError, match="is not finished"):
        ImageCache(tmp_path / "cache")
    _cache(tmp_path / "cache", manifest, tmp_path)
    assert _bytes(tmp_path / "cache") == _bytes(tmp_path / "whole")


def test_a_real_limit_on_files_is_an_error_too(tmp_path):
    """The kernel's own error, in a child whose files may not grow."""
    manifest = make_images(tmp_path, 20)

    def work():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            _cache(tmp_path / "cache", manifest, tmp_path)
        except OSError as error:
            os._exit(7 if error.errno == errno.EFBIG else 8)

    assert _in_child(work, kill_at=-1) == 7
    assert len(_cache(tmp_path / "cache", manifest, tmp_path)) == 20


def test_two_processes_do_not_cache_at_once(tmp_path):
    manifest = make_images(tmp_path, 2)
    folder = tmp_path / "cache"

    def compete():
        with pytest.raises(LockedError, match="another process is at work"):
            _cache(folder, manifest, tmp_path)

    with locked(tmp_path / "cache.lock", wait=False):
        assert _in_child(compete, kill_at=-1) == 0
    assert not folder.exists()
    assert len(_cache(folder, manifest, tmp_path)) == 2


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
    assert len(_cache(folder, manifest, tmp_path, wait=True)) == 3
    assert time.monotonic() - started > 0.1
    os.waitpid(child, 0)


def test_a_finished_cache_needs_no_lock(tmp_path):
    manifest = make_images(tmp_path, 2)
    _cache(tmp_path / "cache", manifest, tmp_path)
    (tmp_path / "cache.lock").unlink()
    _cache(tmp_path / "cache", manifest, tmp_path)
    assert not (tmp_path / "cache.lock").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (KEY, b"{", "cache.json is damaged"),
        (KEY, b"[]", "cache.json is damaged"),
        ("images.npy", b"", "images.npy is damaged"),
        ("images.npy", None, "images.npy is damaged"),
        (STATUS, None, "status.npy is damaged"),
    ],
)
def test_damaged_files_are_refused(tmp_path, name, content, message):
    manifest = make_images(tmp_path, 3)
    path = tmp_path / "cache" / name
    _cache(tmp_path / "cache", manifest, tmp_path)
    path.write_bytes(path.read_bytes()[:-1] if content is None else content)
    with pytest.raises(ValueError, match=message):
        ImageCache(tmp_path / "cache")


def test_an_unknown_status_is_refused(tmp_path):
    _cache(tmp_path / "cache", make_images(tmp_path, 3), tmp_path)
    path = tmp_path / "cache" / STATUS
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    with pytest.raises(ValueError, match="it holds 255"):
        ImageCache(tmp_path / "cache")


def test_an_unforeseen_error_names_its_row(tmp_path, monkeypatch):
    manifest = make_images(tmp_path, 3)

    def fail(path):
        if path.name == "001.png":
            raise ZeroDivisionError
        return read_image(path)

    monkeypatch.setattr(caching, "read_image", fail)
    with pytest.raises(RuntimeError, match="row 1 of the manifest can not be read"):
        _cache(tmp_path / "cache", manifest, tmp_path)


@pytest.mark.parametrize(("options", "message"), [({"workers": -1}, "workers"), ({"image_size": 0}, "image_size")])
def test_settings_out_of_range_are_refused(tmp_path, options, message):
    manifest = make_images(tmp_path, 1)
    arguments = {"image_size": SIZE} | options
    with pytest.raises(ValueError, match=f"{message} must"):
        cache_images(tmp_path / "cache", manifest, tmp_path, **arguments)
    assert not (tmp_path / "cache").exists()


def test_370_000_images_take_no_space_before_they_are_read(tmp_path):
    create(tmp_path / "cache", CacheKey("0" * 64, 370_000, 512))
    taken = sum(path.stat().st_blocks * 512 for path in (tmp_path / "cache").iterdir())
    assert (tmp_path / "cache" / "images.npy").stat().st_size > 370_000 * 512**2
    assert taken < 1e6


def test_workers_are_told_their_rows_alone():
    jobs = caching._Jobs(make_manifest([f"{row}.png" for row in range(20)]).table["image"], np.array([2, 3, 19]))
    assert list(jobs) == [[(2, "2.png"), (3, "3.png"), (19, "19.png")]]


def test_the_reader_s_version_is_raised_when_pixels_change(tmp_path):
    """If this fails, raise READER_VERSION and write the new numbers here."""
    column, row = np.meshgrid(np.arange(24), np.arange(16))
    Image.fromarray((column * 9 + row).astype(np.uint8)).save(tmp_path / "a.png")
    found = square(read_image(tmp_path / "a.png"), 4)
    expected = np.array([[8, 27, 47, 66], [27, 82, 141, 195], [35, 89, 148, 202], [13, 32, 53, 71]])
    assert CacheKey("", 1, 1).reader == "1"
    assert np.abs(found.astype(int) - expected).max() <= 1
