"""DICOM files made for tests."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

CANARY = "CANARY^PATIENT"


def radiograph(seed: int = 0, rows: int = 24, columns: int = 20, high: int = 4096) -> npt.NDArray[np.uint16]:
    """Random values with 0 and `high - 1` among them."""
    pixels = np.random.default_rng(seed).integers(0, high, (rows, columns), dtype=np.uint16)
    pixels[0, :2] = 0, high - 1
    return pixels


def dataset(pixels: npt.NDArray[np.integer[Any]] | None = None, **elements: Any) -> Dataset:
    """A frontal chest radiograph of 12 bits, full of identifiers; `elements` replace, or remove where None."""
    pixels = radiograph() if pixels is None else pixels
    made = Dataset()
    made.file_meta, made.preamble = FileMetaDataset(), bytes(128)
    values: dict[str, Any] = {
        "SOPClassUID": DigitalXRayImageStorageForPresentation,
        "SOPInstanceUID": generate_uid(),
        "Modality": "DX",
        "PatientName": CANARY,
        "PatientID": CANARY,
        "PatientComments": CANARY,
        "StudyDescription": CANARY,
        "InstitutionName": CANARY,
        "AccessionNumber": "CANARY",
        "ReferringPhysicianName": CANARY,
        "BodyPartExamined": "CHEST",
        "ViewPosition": "PA",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": 8 * pixels.itemsize,
        "BitsStored": 12 if pixels.itemsize == 2 else 8,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
    }
    values["HighBit"] = elements.get("BitsStored", values["BitsStored"]) - 1
    values["PixelData"] = pixels.tobytes()
    for keyword, value in (values | elements).items():
        if value is not None:
            setattr(made, keyword, value)
    return made


def save(made: Dataset, path: Path, syntax: UID = ExplicitVRLittleEndian) -> Path:
    made.file_meta.TransferSyntaxUID = syntax
    made.save_as(path)
    return path


def encapsulated(made: Dataset, frame: bytes) -> Dataset:
    made.PixelData = encapsulate([frame])
    made["PixelData"].is_undefined_length = True
    return made


def save_bare(made: Dataset, path: Path, *, implicit: bool) -> Path:
    """Only the data set, without preamble and file meta information."""
    del made.file_meta, made.preamble
    made.save_as(path, implicit_vr=implicit, little_endian=True)
    return path


def lookup_table(entries: npt.NDArray[np.uint16] | None, first: int, bits: int) -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [4096 if entries is None else len(entries), first, bits]
    if entries is not None:
        item.LUTData = entries.astype("<u2").tobytes()
    return item


def code(value: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", CANARY
    return item
