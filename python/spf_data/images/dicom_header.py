"""What a DICOM header must say for its pixels to be a frontal chest radiograph."""

import re
from pathlib import Path

from pydicom import Dataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

from spf_data.images.errors import ImageError, check_size

# All that is parsed of a file.
ELEMENTS = (
    "SOPClassUID",
    "Modality",
    "PresentationIntentType",
    "BodyPartExamined",
    "AnatomicRegionSequence",
    "ViewPosition",
    "ViewCodeSequence",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "ModalityLUTSequence",
    "RescaleSlope",
    "RescaleIntercept",
    "VOILUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "PixelData",
    "FloatPixelData",
    "DoubleFloatPixelData",
)

_SOP_CLASSES = {
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
}
# Secondary captures may be of anything: a digitised film has modality RG or OT, or none.
_MODALITIES = {"CR", "DX", "RG", "OT", ""}
# CHEST is the standard's term (PS3.16, annex L), the others and "CHEST PA" and the like are what devices write.
_CHEST_WORDS = {"CHEST", "THORAX", "LUNG", "LUNGS"}
# PS3.16, CID 4009: chest and lung, as SNOMED CT and as the older SNOMED RT codes.
_CHEST_CODES = {"816094009", "51185008", "T-D3000", "39607008", "T-28000"}
# PS3.3 C.8.1.1 and C.8.11.5: the other terms are lateral, oblique and decubitus views.
_FRONTAL_VIEWS = {"AP", "PA"}
# PS3.16, CID 4010, and the older codes.
_FRONTAL_CODES = {
    "399348003": "AP",
    "R-10206": "AP",
    "272479007": "PA",
    "R-10214": "PA",
    "R-40888": "PA",
    "399033003": "frontal",
    "R-10202": "frontal",
}


def check_header(dataset: Dataset, path: Path) -> str:
    """Refuse what is no frontal chest radiograph, or has pixels that are not one grey image of 8 to 16 bits.

    Body part and view decide only where the file states them: many do not. Descriptions in free text are not read.

    Args:
        dataset: Parsed, pixels not decoded yet.
        path: For messages.

    Returns:
        The view, see `Radiograph`.

    Raises:
        ImageError: With the reason, see `Reason`.
    """
    _check_kind(dataset, path)
    _check_body_part(dataset, path)
    view = _view(dataset, path)
    _check_pixels(dataset, path)
    return view


def _check_kind(dataset: Dataset, path: Path) -> None:
    sop_class = dataset.get("SOPClassUID")
    if sop_class not in _SOP_CLASSES:
        raise ImageError("not a radiograph", path, "its SOP class is not that of a radiograph")
    if _text(dataset, "Modality") not in _MODALITIES:
        raise ImageError("not a radiograph", path, "its modality is not that of a radiograph")
    raw = _text(dataset, "PresentationIntentType") == "FOR PROCESSING"
    if raw or sop_class == DigitalXRayImageStorageForProcessing:
        raise ImageError("not for presentation", path, "the detector's raw values")


def _check_body_part(dataset: Dataset, path: Path) -> None:
    body_part, codes = _text(dataset, "BodyPartExamined"), _codes(dataset, "AnatomicRegionSequence")
    if body_part:
        is_chest = bool(_CHEST_WORDS & set(re.findall("[A-Z]+", body_part)))
    else:
        is_chest = not codes or bool(_CHEST_CODES & codes)
    if not is_chest:
        raise ImageError("not a chest", path)


def _view(dataset: Dataset, path: Path) -> str:
    position, codes = _text(dataset, "ViewPosition"), _codes(dataset, "ViewCodeSequence")
    if position in _FRONTAL_VIEWS:
        return position
    if position or codes - set(_FRONTAL_CODES):
        raise ImageError("not frontal", path)
    return _FRONTAL_CODES[min(codes)] if codes else ""


def _check_pixels(dataset: Dataset, path: Path) -> None:
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        raise ImageError("wrong bit depth", path, "floating-point pixels")
    if not dataset.get("PixelData"):
        raise ImageError("no pixels", path)
    if int(dataset.get("NumberOfFrames") or 1) != 1:
        raise ImageError("several frames", path)
    if dataset.SamplesPerPixel != 1 or dataset.PhotometricInterpretation not in ("MONOCHROME1", "MONOCHROME2"):
        raise ImageError("colour image", path)
    allocated, stored = dataset.BitsAllocated, dataset.BitsStored
    if allocated not in (8, 16) or not 8 <= stored <= allocated or dataset.HighBit != stored - 1:
        raise ImageError("wrong bit depth", path, f"{stored} bits in {allocated}, the highest is bit {dataset.HighBit}")
    check_size(dataset.Rows, dataset.Columns, path)


def _text(dataset: Dataset, keyword: str) -> str:
    """A value, or several in one string; "" where there is none."""
    return str(dataset.get(keyword) or "").strip().upper()


def _codes(dataset: Dataset, keyword: str) -> set[str]:
    return {item.CodeValue for item in dataset.get(keyword) or [] if "CodeValue" in item}
