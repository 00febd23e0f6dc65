"""PNG and JPEG: values, and a reason for every file that is refused."""

import io
import os
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from spf_data.images import ImageError, errors, read_image, read_radiograph, square

Levels = npt.NDArray[Any]


def grey(seed: int = 0, rows: int = 30, columns: int = 20) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (rows, columns), dtype=np.uint8)


def encoded(levels: Levels, kind: str = "PNG", mode: str | None = None, **options: Any) -> bytes:
    picture = Image.fromarray(levels)
    if mode is not None:
        picture = picture.convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def png(header: bytes, content: bytes = b"") -> bytes:
    """A PNG file with any header (13 bytes) and any content before compression."""
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(content)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def with_alpha(levels: Levels, alpha: int) -> Levels:
    return np.dstack([levels] * 3 + [np.full_like(levels, alpha)])


def write(folder: Path, content: bytes, name: str = "image") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def reason_of(path: Path) -> str:
    with pytest.raises(ImageError) as raised:
        read_image(path)
    assert str(raised.value).startswith(f"{path}: {raised.value.reason}")
    return raised.value.reason


@pytest.mark.parametrize("name", ["image.png", "image.jpg", "image.dcm", "image"])
def test_the_content_decides_not_the_name(name: str, tmp_path: Path) -> None:
    read = read_radiograph(write(tmp_path, encoded(grey()), name))
    assert read.pixels.dtype == np.float32
    assert read.view == ""
    np.testing.assert_allclose(read.pixels, grey() / 255.0, atol=1e-7)


def test_jpeg(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(40) * 3, np.arange(30) * 2).astype(np.uint8)
    pixels = read_image(write(tmp_path, encoded(smooth, "JPEG", quality=95)))
    np.testing.assert_allclose(pixels, smooth / 255.0, atol=4 / 255)


@pytest.mark.parametrize(
    ("largest", "divisor"),
    [(65535, 65535), (16384, 65535), (16383, 16383), (4096, 16383), (4095, 4095), (1000, 1023), (255, 255), (7, 255)],
)
def test_16_bits_are_scaled_by_the_smallest_depth_that_holds_them(largest: int, divisor: int, tmp_path: Path) -> None:
    levels = np.random.default_rng(largest).integers(0, largest + 1, (9, 11)).astype(np.uint16)
    levels[0, :2] = 0, largest
    pixels = read_image(write(tmp_path, encoded(levels)))
    np.testing.assert_allclose(pixels, levels / divisor, atol=1e-6)


def test_equal_channels_and_opaque_alpha_are_grey(tmp_path: Path) -> None:
    for content in (
        encoded(np.dstack([grey()] * 3)),
        encoded(with_alpha(grey(), 255)),
        encoded(grey(), mode="LA"),
    ):
        np.testing.assert_allclose(read_image(write(tmp_path, content)), grey() / 255.0, atol=1e-6)


def test_the_chroma_noise_of_jpeg_is_tolerated(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(64), np.arange(64) * 2).astype(np.int64)[..., None]
    noisy = (smooth + np.random.default_rng(0).integers(-1, 2, (64, 64, 3))).clip(0, 255).astype(np.uint8)
    pixels = read_image(write(tmp_path, encoded(noisy, "JPEG", quality=90)))
    np.testing.assert_allclose(pixels, smooth[..., 0] / 255.0, atol=8 / 255)


def test_the_orientation_that_a_camera_noted_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = read_image(write(tmp_path, encoded(grey(), exif=exif)))
    np.testing.assert_allclose(pixels, np.rot90(grey(), -1) / 255.0, atol=1e-7)


REFUSED: dict[str, tuple[str, Callable[[], bytes]]] = {
    "nothing in it": ("empty file", lambda: b""),
    "zeros": ("zero bytes", lambda: bytes(4096)),
    "few zeros": ("zero bytes", lambda: bytes(3)),
    "text": ("unknown format", lambda: b"file,status\n1.png,ok\n" * 20),
    "tiff": ("unknown format", lambda: encoded(grey(), "TIFF")),
    "gif": ("unknown format", lambda: encoded(grey(), "GIF")),
    "bitmap": ("unknown format", lambda: encoded(grey(), "BMP")),
    "encrypted": ("unknown format", lambda: b"\x30\x82" + np.random.default_rng(0).bytes(5000)),
    "half a png": ("truncated image", lambda: encoded(grey())[:400]),
    "half a jpeg": ("truncated image", lambda: encoded(grey(0, 64, 64), "JPEG")[:1500]),
    "png signature alone": ("unreadable image", lambda: b"\x89PNG\r\n\x1a\n"),
    "jpeg signature alone": ("unreadable image", lambda: b"\xff\xd8\xff\xe0"),
    "damaged checksum": ("unreadable image", lambda: encoded(grey()).replace(b"IHDR\0", b"IHDR\1")),
    "png with too few rows": ("truncated image", lambda: png(struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0), bytes(20))),
    "no size": ("unreadable image", lambda: png(struct.pack(">IIBBBBB", 0, 8, 8, 0, 0, 0, 0))),
    "bomb": ("too large", lambda: png(struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0))),
    "smaller bomb": ("too large", lambda: png(struct.pack(">IIBBBBB", 10000, 8000, 8, 0, 0, 0, 0))),
    "one bit": ("wrong bit depth", lambda: encoded(grey(), mode="1")),
    "four bits": ("wrong bit depth", lambda: png(struct.pack(">IIBBBBB", 4, 1, 4, 0, 0, 0, 0), b"\0\1\2")),
    "16-bit colour": ("wrong bit depth", lambda: png(struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0), bytes(7))),
    "palette": ("palette image", lambda: encoded(grey(), mode="P")),
    "transparent": ("transparent image", lambda: encoded(with_alpha(grey(), 200))),
    "one transparent level": ("transparent image", lambda: encoded(grey(), transparency=7)),
    "photograph": ("colour image", lambda: encoded(np.random.default_rng(1).integers(0, 256, (8, 8, 3), np.uint8))),
    "photograph as jpeg": ("colour image", lambda: encoded(np.full((16, 16, 3), [200, 90, 60], np.uint8), "JPEG")),
    "tinted film": ("colour image", lambda: encoded(np.dstack([grey(2) // 2, grey(2) // 2, grey(2) // 2 + 40]))),
    "cmyk": ("colour image", lambda: encoded(np.dstack([grey()] * 3), "JPEG", "CMYK")),
    "animation": (
        "several frames",
        lambda: encoded(grey(), save_all=True, append_images=[Image.fromarray(grey(1))]),
    ),
    "black": ("blank image", lambda: encoded(np.zeros((8, 8), np.uint8))),
    "white": ("blank image", lambda: encoded(np.full((8, 8), 65535, np.uint16))),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_and_why(name: str, tmp_path: Path) -> None:
    reason, content = REFUSED[name]
    assert reason_of(write(tmp_path, content())) == reason


def test_what_is_not_a_file(tmp_path: Path) -> None:
    assert reason_of(tmp_path / "absent.png") == "missing file"
    assert reason_of(tmp_path) == "not a file"
    assert reason_of(Path("nul\0byte")) in ("missing file", "unreadable file")
    assert reason_of(tmp_path / ("long" * 1000)) in ("missing file", "unreadable file")
    os.mkfifo(tmp_path / "pipe")
    assert reason_of(tmp_path / "pipe") == "not a file"


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as opened:
        opened.truncate(errors.MAX_BYTES + 1)
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("read"))
    assert reason_of(path) == "too large"


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("seed", range(2))
def test_damage_anywhere_is_an_image_error(kind: str, seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    whole = encoded(grey(), kind)
    refused = 0
    for _ in range(60):
        damaged = bytearray(whole)
        for at in random.integers(0, len(whole), 4):
            damaged[at] = random.integers(256)
        try:
            pixels = read_image(write(tmp_path, bytes(damaged)))
            assert 0 <= pixels.min() < pixels.max() <= 1
        except ImageError:
            refused += 1
    assert refused > 0


def test_the_error_survives_the_way_between_processes() -> None:
    error = ImageError("blank image", Path("a.png"), "why")
    copied = pickle.loads(pickle.dumps(error))
    assert (str(copied), copied.reason) == ("a.png: blank image (why)", "blank image")
    assert isinstance(copied, ValueError)


def test_square_pads_to_the_centre() -> None:
    image = np.full((4, 9), 0.5, dtype=np.float32)
    padded = square(image, 9)
    expected = np.zeros((9, 9), dtype=np.uint8)
    expected[2:6] = 128
    assert padded.dtype == np.uint8
    np.testing.assert_array_equal(padded, expected)
    np.testing.assert_array_equal(square(image.T.copy(), 9), expected.T)


def test_square_keeps_the_mean_of_stripes_that_a_pick_of_pixels_would_not() -> None:
    stripes = np.tile(np.array([0, 1], dtype=np.float32), (256, 128))
    small = square(stripes, 32)
    assert abs(small[2:-2, 2:-2].astype(float) - 127.5).max() < 4


def test_square_resizes_as_pillow_does_8_bits() -> None:
    smooth = (np.outer(np.hanning(90), np.hanning(90)) * 255).astype(np.uint8)
    resized = np.asarray(Image.fromarray(smooth).resize((40, 40), Image.Resampling.LANCZOS))
    assert abs(square((smooth / 255).astype(np.float32), 40).astype(int) - resized).max() <= 1


@pytest.mark.parametrize(
    ("image", "size", "error", "message"),
    [
        (np.zeros((4, 4)), 4, TypeError, "image must be float32, got float64"),
        (np.zeros((4, 4, 1), np.float32), 4, ValueError, "image must be"),
        (np.zeros((0, 4), np.float32), 4, ValueError, "not empty"),
        (np.full((4, 4), 1.5, np.float32), 4, ValueError, r"within \[0, 1\], got 1.5 to 1.5"),
        (np.full((4, 4), np.nan, np.float32), 4, ValueError, r"within \[0, 1\]"),
        (np.zeros((4, 4), np.float32), 0, ValueError, "size must be positive, got 0"),
    ],
)
def test_square_refuses(image: Levels, size: int, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        square(image, size)
