"""DICOM: from the stored values to what a radiologist would see.

Of the file only the elements that `spf_data.images.dicom_header.ELEMENTS` names are parsed. No patient field is among
them, so none can get into a result, a message or a log.
"""

import io
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmread
from pydicom.encaps import get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_modality_lut, apply_voi, apply_voi_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from spf_data.images.codestream import stated_size
from spf_data.images.dicom_header import ELEMENTS, check_header
from spf_data.images.errors import ImageError, Reason

_META_BYTES = 1 << 16
# Nominal depths of a VOI LUT (PS3.3 C.11.2.1.1 and C.8.11.3.1.5).
_TABLE_DEPTHS = (8, *range(10, 17))
_ROUNDING = 1e-6


def read_dicom(data: bytes, path: Path) -> tuple[npt.NDArray[np.float32], str]:
    """Decode a frontal chest radiograph.

    In the standard's order (PS3.3 C.11 and C.7.6.3.1.2): modality LUT or rescale; VOI LUT, or else the first window;
    scaling; and inversion of MONOCHROME1 last, since windows refer to the values before it. The scale is the VOI
    LUT's range (its nominal depth); for a window, or where there is neither, the range of the stored bits after the
    rescale.

    Args:
        data: The whole file, with or without preamble.
        path: For messages.

    Returns:
        float32 (H, W) in [0, 1], white is dense; and the view, see `Radiograph`.

    Raises:
        ImageError: With the reason, see `Reason`.
    """
    reason: Reason = "unreadable image"
    with warnings.catch_warnings():
        # pydicom's warnings quote values of the file.
        warnings.simplefilter("ignore")
        try:
            dataset = _parse(data, path)
            view = check_header(dataset, path)
            stored = _decode(dataset, path)
            reason = "unusable lookup table"
            return _presented(dataset, stored, path), view
        except ImageError:
            raise
        except EOFError:
            reason = "truncated image"
        except Exception:
            # Values are parsed on first use, and damage surfaces as any exception. Its message may quote the file, so
            # the error below is raised outside of this handler and does not refer to it.
            pass
    raise ImageError(reason, path)


def _parse(data: bytes, path: Path) -> Dataset:
    # pydicom would inflate all at once, however much that is. The syntax is named ahead of everything else.
    if DeflatedExplicitVRLittleEndian.encode() in data[:_META_BYTES]:
        raise ImageError("unsupported transfer syntax", path, "deflated")
    dataset = dcmread(io.BytesIO(data), force=True, specific_tags=list(ELEMENTS))
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return dataset


def _decode(dataset: Dataset, path: Path) -> npt.NDArray[np.int32]:
    """The stored values, (H, W)."""
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise ImageError("unsupported transfer syntax", path, _name(syntax)) from None
    if not decoder.is_available:
        missing = "; ".join(decoder.missing_dependencies)
        raise ImageError("no decoder", path, f"{_name(syntax)} needs one of: {missing}")
    _check_encoded_size(dataset, syntax, path)
    # Left to itself, pydicom drops what exceeds the bits stored, which turns white into black.
    stored = pixel_array(dataset, correct_unused_bits=False).astype(np.int32)
    low, high = _stored_range(dataset)
    modulus = 2**dataset.BitsStored
    if stored.min() < low or stored.max() >= modulus:
        raise ImageError("wrong bit depth", path, f"values exceed the {dataset.BitsStored} bits stored")
    # Negative values whose sign was not extended to the bits above.
    stored[stored > high] -= modulus
    return stored


def _check_encoded_size(dataset: Dataset, syntax: UID, path: Path) -> None:
    """A file of 100 KB can make a JPEG 2000 decoder take gigabytes, whatever Rows and Columns say."""
    if not syntax.is_compressed:
        got, expected = len(dataset.PixelData), dataset.Rows * dataset.Columns * dataset.BitsAllocated // 8
        if got < expected:
            raise ImageError("truncated image", path, f"{got:,} of {expected:,} bytes of pixels")
    elif syntax != RLELossless:
        rows, columns = stated_size(get_frame(dataset.PixelData, 0, number_of_frames=1))
        if (rows, columns) != (dataset.Rows, dataset.Columns):
            raise ImageError("unreadable image", path, f"{columns}x{rows} pixels, not as many as the header says")


def _name(syntax: UID) -> str:
    """Its name in the standard; the text of an unknown one stays in the file."""
    return "private or unknown" if syntax.name == syntax else syntax.name


def _presented(dataset: Dataset, stored: npt.NDArray[np.int32], path: Path) -> npt.NDArray[np.float32]:
    """Lookup tables, scaling, inversion: (H, W) in [0, 1], white is dense."""
    low, high = _output_range(dataset, path)
    values = apply_modality_lut(stored, dataset)
    # An incomplete table is an error here; `apply_voi_lut` would take a window instead.
    values = apply_voi(values, dataset) if dataset.get("VOILUTSequence") else apply_voi_lut(values, dataset)
    shares = (values.astype(np.float64) - low) / (high - low)
    # Written so that NaN is refused as well.
    if not (shares.min() > -_ROUNDING and shares.max() < 1 + _ROUNDING):
        raise ImageError("unusable lookup table", path, "values exceed the range that is stated for them")
    shares = shares.clip(0, 1)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        shares = 1 - shares
    pixels: npt.NDArray[np.float32] = shares.astype(np.float32)
    return pixels


def _stored_range(dataset: Dataset) -> tuple[int, int]:
    bits = dataset.BitsStored
    return (0, 2**bits - 1) if dataset.PixelRepresentation == 0 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _output_range(dataset: Dataset, path: Path) -> tuple[float, float]:
    """The values that become 0 and 1, before the inversion."""
    if dataset.get("VOILUTSequence"):
        descriptor = dataset.VOILUTSequence[0].LUTDescriptor
        if descriptor[2] not in _TABLE_DEPTHS:
            raise ImageError("unusable lookup table", path, f"{descriptor[2]} bits an entry")
        high = 2 ** descriptor[2] - 1
        # pydicom looks entries up in the output's type: of 4096 entries of 8 bits it would find the first 256 only.
        descriptor[2] = 16
        return 0, high
    if dataset.get("ModalityLUTSequence"):
        return 0, 2 ** dataset.ModalityLUTSequence[0].LUTDescriptor[2] - 1
    slope, intercept = 1.0, 0.0
    if dataset.get("RescaleSlope") is not None and dataset.get("RescaleIntercept") is not None:
        slope, intercept = float(dataset.RescaleSlope), float(dataset.RescaleIntercept)
    if not slope > 0:
        raise ImageError("unusable lookup table", path, "the rescale slope must be positive")
    low, high = _stored_range(dataset)
    return low * slope + intercept, high * slope + intercept
