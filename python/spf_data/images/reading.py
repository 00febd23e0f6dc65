"""One entrance for all formats; the content decides, never the name."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from spf_data.images.errors import MAX_BYTES, ImageError
from spf_data.images.pictures import JPEG_START, PNG_START, read_picture

_PREAMBLE = 128
# Where the preamble is missing, a data set starts with an element of one of these groups.
_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00")


class Radiograph(NamedTuple):
    """What is kept of a file: no name, no date, no identifier.

    Attributes:
        pixels: float32 (H, W) in [0, 1], white (1) is dense.
        view: "AP", "PA", "frontal", or "" where the file does not say.
    """

    pixels: npt.NDArray[np.float32]
    view: str


def read_image(path: Path) -> npt.NDArray[np.float32]:
    """The pixels of `read_radiograph`: float32 (H, W) in [0, 1], white is dense.

    Raises:
        ImageError: If the file is not a usable frontal chest radiograph; `reason` says why.
    """
    return read_radiograph(path).pixels


def read_radiograph(path: Path) -> Radiograph:
    """Read a frontal chest radiograph from a PNG (8 or 16 bits), JPEG or DICOM file.

    Args:
        path: The file; what it contains decides how it is read, not its extension. DICOM is also read without its
            preamble.

    Raises:
        ImageError: If the file is not a usable frontal chest radiograph; `reason` says why.
        ModuleNotFoundError: If it is DICOM and pydicom is not installed.
    """
    data = _read_bytes(path)
    if data.startswith((PNG_START, JPEG_START)):
        radiograph = Radiograph(read_picture(data, path), "")
    elif data[_PREAMBLE : _PREAMBLE + 4] == b"DICM" or data.startswith(_FIRST_GROUPS):
        # Only those who have DICOM files need pydicom.
        from spf_data.images.dicom import read_dicom

        radiograph = Radiograph(*read_dicom(data, path))
    else:
        raise ImageError("unknown format", path, "neither PNG, JPEG nor DICOM")
    if radiograph.pixels.min() == radiograph.pixels.max():
        raise ImageError("blank image", path, "all pixels are equal")
    return radiograph


def _read_bytes(path: Path) -> bytes:
    try:
        if not path.exists():
            raise ImageError("missing file", path)
        # A pipe or a device could be endless.
        if not path.is_file():
            raise ImageError("not a file", path)
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ImageError("too large", path, f"{size:,} bytes, at most {MAX_BYTES:,}")
        data = path.read_bytes()
    # An impossible name is a ValueError, and so is ImageError.
    except ImageError:
        raise
    except (OSError, ValueError) as error:
        raise ImageError("unreadable file", path, type(error).__name__) from None
    if not data:
        raise ImageError("empty file", path)
    if not any(data[: _PREAMBLE + 4]):
        raise ImageError("zero bytes", path, "the file starts with zeros only")
    return data
