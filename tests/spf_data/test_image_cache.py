import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from spf_data.image_cache import ImageCache, cache_images, caching, open_cache
from spf_data.image_cache.layout import KEY, STATUS, CacheKey, create
from spf_data.images import read_image, square

from tests.spf_data.manifests import CACHE_SIZE as SIZE
from tests.spf_data.manifests import bytes_of, make_cache, make_images, make_manifest, save_image

PYTHON = Path(__file__).resolve().parents[2] / "python"
TRACED = str(PYTHON / "spf_data" / "image_cache")


def test_every_image_is_read_squared_and_resized(tmp_path):
    manifest = make_images(tmp_path, 5)
    cache = make_cache(tmp_path / "cache", manifest, tmp_path)
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
    cache = make_cache(tmp_path / "cache", manifest, tmp_path)
    assert cache.unreadable()[1:3] == [(2, "missing image"), (3, "path outside root")]
    assert [row for row, _ in cache.unreadable()] == [1, 2, 3, 4]
    assert sum(cache.unreadable_counts().values()) == 4
    assert cache.readable.tolist() == [True, False, False, False, False, True]
    assert not cache.images[1:5].any()


def test_workers_make_the_same_bytes(tmp_path):
    manifest = make_images(tmp_path, 21, unreadable=(7,))
    make_cache(tmp_path / "one", manifest, tmp_path)
    make_cache(tmp_path / "many", manifest, tmp_path, workers=2)
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "many")


def test_what_is_cached_is_not_read_again(tmp_path, monkeypatch):
    manifest = make_images(tmp_path, 4, unreadable=(2,))
    before = make_cache(tmp_path / "cache", manifest, tmp_path).images[:].copy()

    def refuse(*_):
        raise AssertionError("an image is read again")

    monkeypatch.setattr(caching, "read_image", refuse)
    assert np.array_equal(make_cache(tmp_path / "cache", manifest, tmp_path).images, before)


def test_unreadable_images_are_tried_again_on_request(tmp_path):
    manifest = make_images(tmp_path, 4, unreadable=(2,))
    make_cache(tmp_path / "cache", manifest, tmp_path)
    save_image(tmp_path / "images/002.png", 2)
    assert make_cache(tmp_path / "cache", manifest, tmp_path).unreadable_counts()
    cache = make_cache(tmp_path / "cache", manifest, tmp_path, retry=True)
    assert cache.unreadable() == []
    assert cache.images[2].any()


def test_another_manifest_or_size_or_reader_is_refused(tmp_path):
    manifest = make_images(tmp_path, 4)
    images = manifest.column("image")
    folder = tmp_path / "cache"
    make_cache(folder, manifest, tmp_path)
    for other in (make_manifest(images[:3]), make_manifest(images[::-1])):
        with pytest.raises(ValueError, match=r"another cache, by the manifest's images \(it has 4, the manifest"):
            make_cache(folder, other, tmp_path)
        with pytest.raises(ValueError, match="name another folder"):
            open_cache(folder, other, SIZE)
    with pytest.raises(ValueError, match=r"image_size \(it has 12, got 13\)"):
        cache_images(folder, manifest, tmp_path, 13)
    content = json.loads((folder / KEY).read_text())
    (folder / KEY).write_text(json.dumps(content | {"reader": "0"}))
    with pytest.raises(ValueError, match="the reader's version"):
        make_cache(folder, manifest, tmp_path)


def test_other_labels_and_patients_use_the_same_cache(tmp_path):
    manifest = make_images(tmp_path, 3)
    make_cache(tmp_path / "cache", manifest, tmp_path)
    other = make_manifest(
        manifest.column("image"), {"nodule": [1, 0, None]}, patient=["test:a"] * 3, split=["test"] * 3
    )
    assert len(open_cache(tmp_path / "cache", other, SIZE)) == 3


def test_images_of_another_root_are_refused(tmp_path):
    manifest = make_images(tmp_path / "here", 3)
    make_images(tmp_path / "there", 3)
    save_image(tmp_path / "there" / "images/001.png", 1, size=(50, 50))
    make_cache(tmp_path / "cache", manifest, tmp_path / "here")
    with pytest.raises(ValueError, match=r"row 1 had .* bytes, has"):
        make_cache(tmp_path / "cache", manifest, tmp_path / "there")
    with pytest.raises(FileNotFoundError, match="root must be the folder of the images"):
        make_cache(tmp_path / "cache", manifest, tmp_path / "nowhere")


def test_a_root_without_any_of_the_images_is_refused(tmp_path):
    manifest = make_images(tmp_path / "here", 30)
    (tmp_path / "there").mkdir()
    with pytest.raises(FileNotFoundError, match="none of 16 is there"):
        make_cache(tmp_path / "cache", manifest, tmp_path / "there")
    assert len(make_cache(tmp_path / "cache", manifest, tmp_path / "here")) == 30


def test_a_manifest_of_unreadable_images_alone_is_refused(tmp_path):
    manifest = make_images(tmp_path, 2, unreadable=(0, 1))
    with pytest.raises(ValueError, match=r"no image could be read: \{'.*': 2\}"):
        make_cache(tmp_path / "cache", manifest, tmp_path)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    manifest = make_images(tmp_path, 2)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "images.npy").write_bytes(b"precious")
    with pytest.raises(ValueError, match="must be a new or empty folder"):
        make_cache(tmp_path / "mine", manifest, tmp_path)
    assert (tmp_path / "mine" / "images.npy").read_bytes() == b"precious"
    (tmp_path / "empty").mkdir()
    assert len(make_cache(tmp_path / "empty", manifest, tmp_path)) == 2


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
    make_cache(tmp_path / "cache", manifest, tmp_path)
    path.write_bytes(path.read_bytes()[:-1] if content is None else content)
    with pytest.raises(ValueError, match=message):
        ImageCache(tmp_path / "cache")


def test_an_unknown_status_is_refused(tmp_path):
    make_cache(tmp_path / "cache", make_images(tmp_path, 3), tmp_path)
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
        make_cache(tmp_path / "cache", manifest, tmp_path)


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
