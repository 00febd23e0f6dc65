"""DICOM: the values a radiologist would see, and a reason for everything else."""

import io
import logging
import pickle
import traceback
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from pydicom import Dataset
from pydicom.encaps import get_frame
from pydicom.uid import (
    MPEG2MPML,
    UID,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForProcessing,
    EncapsulatedPDFStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
    SecondaryCaptureImageStorage,
)
from spf_data.images import ImageError, dicom, read_image, read_radiograph

from .dicom_files import CANARY, code, dataset, encapsulated, lookup_table, radiograph, save, save_bare

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "dicom"


def expected(pixels: npt.NDArray[Any], bits: int = 12) -> npt.NDArray[np.float64]:
    shares: npt.NDArray[np.float64] = pixels / (2**bits - 1)
    return shares


def jpeg(levels: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def compressed(made: Dataset, syntax: UID) -> Dataset:
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.compress(syntax, generate_instance_uid=False)
    return made


def smooth(rows: int = 34, columns: int = 40) -> npt.NDArray[np.uint8]:
    return np.add.outer(np.arange(rows) * 4, np.arange(columns) * 2).astype(np.uint8)


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless], ids=lambda uid: uid.name
)
def test_lossless_syntaxes_give_the_stored_values(syntax: UID, tmp_path: Path) -> None:
    pixels = radiograph(2, 65, 71)
    made = compressed(dataset(pixels), syntax) if syntax.is_compressed else dataset(pixels)
    read = read_radiograph(save(made, tmp_path / "image.dcm", syntax))
    assert read.pixels.dtype == np.float32
    assert read.view == "PA"
    np.testing.assert_allclose(read.pixels, expected(pixels), atol=1e-6)


def test_big_endian(tmp_path: Path) -> None:
    made = dataset(PixelData=radiograph().astype(">u2").tobytes())
    pixels = read_image(save(made, tmp_path / "image", ExplicitVRBigEndian))
    np.testing.assert_allclose(pixels, expected(radiograph()), atol=1e-6)


def test_jpeg_baseline(tmp_path: Path) -> None:
    made = encapsulated(dataset(smooth()), jpeg(smooth()))
    pixels = read_image(save(made, tmp_path / "image.dcm", JPEGBaseline8Bit))
    np.testing.assert_allclose(pixels, expected(smooth(), 8), atol=4 / 255)


@pytest.mark.parametrize("implicit", [True, False])
def test_without_preamble_and_under_another_name(implicit: bool, tmp_path: Path) -> None:
    path = save_bare(dataset(), tmp_path / "image.png", implicit=implicit)
    np.testing.assert_allclose(read_image(path), expected(radiograph()), atol=1e-6)


def test_signed_values(tmp_path: Path) -> None:
    pixels = radiograph().astype(np.int16) - 2048
    # As 16 bits, and as 12 bits below zeros.
    for number, bits in enumerate([pixels, pixels & 0xFFF]):
        read = read_image(save(dataset(bits), tmp_path / str(number)))
        np.testing.assert_allclose(read, expected(radiograph()), atol=1e-6)


def test_the_window_comes_before_the_inversion(tmp_path: Path) -> None:
    paths = [
        save(dataset(PhotometricInterpretation=name, WindowCenter=1000.5, WindowWidth=1001), tmp_path / name)
        for name in ("MONOCHROME2", "MONOCHROME1")
    ]
    # PS3.3 C.11.2.1.2: from 500 to 1500 the values rise linearly.
    rising = ((radiograph().astype(float) - 500) / 1000).clip(0, 1)
    np.testing.assert_allclose(read_image(paths[0]), rising, atol=1e-6)
    np.testing.assert_allclose(read_image(paths[1]), 1 - rising, atol=1e-6)


def test_of_several_windows_the_first_counts(tmp_path: Path) -> None:
    several = dataset(WindowCenter=[1000.5, 3000], WindowWidth=[1001, 10])
    one = dataset(WindowCenter=1000.5, WindowWidth=1001)
    first, only = (read_image(save(made, tmp_path / str(number))) for number, made in enumerate([several, one]))
    np.testing.assert_array_equal(first, only)


def test_an_empty_window_is_none(tmp_path: Path) -> None:
    made = dataset()
    made.WindowCenter, made.WindowWidth = None, None
    np.testing.assert_allclose(read_image(save(made, tmp_path / "image")), expected(radiograph()), atol=1e-6)


def test_the_rescale_moves_values_and_range_alike(tmp_path: Path) -> None:
    made = dataset(RescaleSlope=2, RescaleIntercept=-1000)
    np.testing.assert_allclose(read_image(save(made, tmp_path / "image")), expected(radiograph()), atol=1e-6)


def test_a_rescale_comes_before_the_window(tmp_path: Path) -> None:
    made = dataset(RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=1000.5, WindowWidth=1001)
    rising = ((radiograph() * 2.0 - 1000 - 500) / 1000).clip(0, 1)
    np.testing.assert_allclose(read_image(save(made, tmp_path / "image")), rising, atol=1e-6)


@pytest.mark.parametrize("bits", [8, 10, 16])
def test_a_voi_table_scales_by_its_own_depth(bits: int, tmp_path: Path) -> None:
    entries = (np.linspace(0, 1, 4096) ** 2 * (2**bits - 1)).astype(np.uint16)
    made = dataset(VOILUTSequence=[lookup_table(entries, 0, bits)], WindowCenter=5, WindowWidth=2)
    pixels = read_image(save(made, tmp_path / "image"))
    np.testing.assert_allclose(pixels, entries[radiograph()] / (2**bits - 1), atol=1e-6)


def test_a_voi_table_holds_its_ends_and_is_inverted_last(tmp_path: Path) -> None:
    entries = np.linspace(0, 4095, 1000).astype(np.uint16)
    made = dataset(VOILUTSequence=[lookup_table(entries, 500, 12)], PhotometricInterpretation="MONOCHROME1")
    looked_up = entries[(radiograph().astype(int) - 500).clip(0, 999)]
    np.testing.assert_allclose(read_image(save(made, tmp_path / "image")), 1 - looked_up / 4095, atol=1e-6)


def test_a_modality_table_comes_first(tmp_path: Path) -> None:
    entries = np.linspace(65535, 0, 4096).astype(np.uint16)
    table = lookup_table(entries, 0, 16)
    table.ModalityLUTType = "US"
    made = dataset(ModalityLUTSequence=[table], WindowCenter=20000.5, WindowWidth=10001)
    rising = ((entries[radiograph()].astype(float) - 15000) / 10000).clip(0, 1)
    np.testing.assert_allclose(read_image(save(made, tmp_path / "image")), rising, atol=1e-6)


ACCEPTED: dict[str, tuple[dict[str, Any], str]] = {
    "cr": ({"SOPClassUID": ComputedRadiographyImageStorage, "Modality": "CR"}, "PA"),
    "digitised film": ({"SOPClassUID": SecondaryCaptureImageStorage, "Modality": "OT"}, "PA"),
    "no modality": ({"Modality": None}, "PA"),
    "no body part": ({"BodyPartExamined": None}, "PA"),
    "empty body part": ({"BodyPartExamined": ""}, "PA"),
    "thorax": ({"BodyPartExamined": "THORAX"}, "PA"),
    "chest with a view": ({"BodyPartExamined": "CHEST_PA"}, "PA"),
    "coded chest": ({"BodyPartExamined": None, "AnatomicRegionSequence": [code("816094009")]}, "PA"),
    "no view": ({"ViewPosition": None}, ""),
    "ap": ({"ViewPosition": "AP"}, "AP"),
    "coded view": ({"ViewPosition": None, "ViewCodeSequence": [code("399348003")]}, "AP"),
    "one frame": ({"NumberOfFrames": 1}, "PA"),
    "surplus bytes": ({"PixelData": radiograph().tobytes() + bytes(10)}, "PA"),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_is_unusual_and_fine(name: str, tmp_path: Path) -> None:
    elements, view = ACCEPTED[name]
    read = read_radiograph(save(dataset(**elements), tmp_path / "image"))
    assert read.view == view
    np.testing.assert_allclose(read.pixels, expected(radiograph()), atol=1e-6)


REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "ct slice": ("not a radiograph", {"SOPClassUID": CTImageStorage}),
    "document": ("not a radiograph", {"SOPClassUID": EncapsulatedPDFStorage}),
    "no sop class": ("not a radiograph", {"SOPClassUID": None}),
    "capture of a ct": ("not a radiograph", {"SOPClassUID": SecondaryCaptureImageStorage, "Modality": "CT"}),
    "mammogram": ("not a radiograph", {"Modality": "MG"}),
    "raw by class": ("not for presentation", {"SOPClassUID": DigitalXRayImageStorageForProcessing}),
    "raw by intent": ("not for presentation", {"PresentationIntentType": "FOR PROCESSING"}),
    "knee": ("not a chest", {"BodyPartExamined": "KNEE"}),
    "rib cage": ("not a chest", {"BodyPartExamined": "RIBCAGE"}),
    "babygram": ("not a chest", {"BodyPartExamined": "CHESTABDOMEN"}),
    "coded spine": ("not a chest", {"BodyPartExamined": None, "AnatomicRegionSequence": [code("122495006")]}),
    "lateral": ("not frontal", {"ViewPosition": "LATERAL"}),
    "left lateral": ("not frontal", {"ViewPosition": "LL"}),
    "right lateral": ("not frontal", {"ViewPosition": "RL"}),
    "decubitus": ("not frontal", {"ViewPosition": "LLD"}),
    "oblique": ("not frontal", {"ViewPosition": "RLO"}),
    "coded lateral": ("not frontal", {"ViewPosition": None, "ViewCodeSequence": [code("399198007")]}),
    "several frames": ("several frames", {"NumberOfFrames": 2, "PixelData": radiograph().tobytes() * 2}),
    "rgb": ("colour image", {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}),
    "palette": ("colour image", {"PhotometricInterpretation": "PALETTE COLOR"}),
    "one bit": ("wrong bit depth", {"BitsAllocated": 1, "BitsStored": 1}),
    "32 bits": ("wrong bit depth", {"BitsAllocated": 32, "BitsStored": 32}),
    "stored above allocated": ("wrong bit depth", {"BitsStored": 17}),
    "left-justified": ("wrong bit depth", {"HighBit": 15}),
    "more bits than stored": ("wrong bit depth", {"BitsStored": 10}),
    "float pixels": ("wrong bit depth", {"PixelData": None, "FloatPixelData": bytes(4 * 24 * 20)}),
    "no pixels": ("no pixels", {"PixelData": None}),
    "empty pixels": ("no pixels", {"PixelData": b""}),
    "too few bytes": ("truncated image", {"PixelData": radiograph().tobytes()[:-2]}),
    "no rows": ("unreadable image", {"Rows": 0}),
    "size missing": ("unreadable image", {"Columns": None}),
    "sign missing": ("unreadable image", {"PixelRepresentation": None}),
    "bomb": ("too large", {"Rows": 65535, "Columns": 65535}),
    "blank": ("blank image", {"PixelData": bytes(2 * 24 * 20)}),
    "window without width": ("unusable lookup table", {"WindowCenter": 100, "WindowWidth": 0}),
    "unknown window function": (
        "unusable lookup table",
        {"WindowCenter": 100, "WindowWidth": 50, "VOILUTFunction": "CUBIC"},
    ),
    "falling rescale": ("unusable lookup table", {"RescaleSlope": -1, "RescaleIntercept": 0}),
    "flat rescale": ("unusable lookup table", {"RescaleSlope": 0, "RescaleIntercept": 0}),
    "rescale of no number": ("unusable lookup table", {"RescaleSlope": "1e400", "RescaleIntercept": 0}),
    "table of fewer bits than its entries": (
        "unusable lookup table",
        {"VOILUTSequence": [lookup_table(np.arange(4096, dtype=np.uint16), 0, 10)]},
    ),
    "table without entries, beside a window": (
        "unusable lookup table",
        {"VOILUTSequence": [lookup_table(None, 0, 12)], "WindowCenter": 2000, "WindowWidth": 4000},
    ),
    "table of 40 bits": (
        "unusable lookup table",
        {"VOILUTSequence": [lookup_table(np.arange(16, dtype=np.uint16), 0, 40)]},
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_and_why(name: str, tmp_path: Path) -> None:
    reason, elements = REFUSED[name]
    path = save(dataset(**elements), tmp_path / "image.dcm")
    assert reason_of(path) == reason


def refusal(path: Path) -> ImageError | None:
    try:
        read_image(path)
    except ImageError as error:
        return error
    return None


def reason_of(path: Path) -> str:
    """Why it is refused; the message holds the path and nothing of the patient."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        error = refusal(path)
    assert error is not None
    assert str(error).startswith(f"{path}: {error.reason}")
    told = (
        "".join(traceback.format_exception(error)) + repr(error) + "".join(str(warning.message) for warning in warned)
    )
    assert "CANARY" not in told
    return error.reason


def test_more_files_that_are_refused(tmp_path: Path) -> None:
    path = save(dataset(), tmp_path / "image.dcm")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert reason_of(path) in ("truncated image", "unreadable image")
    save(dataset(), path, DeflatedExplicitVRLittleEndian)
    assert reason_of(path) == "unsupported transfer syntax"
    save(encapsulated(dataset(smooth()), b"\0" * 100), path, MPEG2MPML)
    assert reason_of(path) == "unsupported transfer syntax"
    path.write_bytes(whole.replace(ExplicitVRLittleEndian.encode() + b"\0", b"1.2.3.4.5.6.7.8.9000"))
    assert len(path.read_bytes()) == len(whole)
    assert reason_of(path) == "unsupported transfer syntax"
    path.write_bytes(b"\x08\x00" + np.random.default_rng(0).bytes(4000))
    assert reason_of(path) in ("not a radiograph", "unreadable image", "truncated image")


def test_a_missing_decoder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing:
        is_available = False
        missing_dependencies = ("some-plugin - requires numpy and some-package>=2",)

    path = save(encapsulated(dataset(smooth()), jpeg(smooth())), tmp_path / "image.dcm", JPEGBaseline8Bit)
    monkeypatch.setattr(dicom, "get_decoder", lambda _: Missing())
    with pytest.raises(ImageError, match=r"JPEG Baseline.*needs one of: some-plugin.*some-package>=2") as raised:
        read_image(path)
    assert raised.value.reason == "no decoder"


@pytest.mark.parametrize("kept", [2, 20, 300, -20])
def test_a_truncated_jpeg_frame(kept: int, tmp_path: Path) -> None:
    rough = radiograph(1, 64, 64, 256).astype(np.uint8)
    made = encapsulated(dataset(rough), jpeg(rough)[:kept])
    assert reason_of(save(made, tmp_path / "image.dcm", JPEGBaseline8Bit)) in ("truncated image", "unreadable image")


@pytest.mark.parametrize("kind", ["jpeg", "jpeg 2000"])
def test_a_frame_that_claims_to_be_large_is_not_decoded(kind: str, tmp_path: Path) -> None:
    if kind == "jpeg":
        frame, syntax = bytearray(jpeg(smooth())), JPEGBaseline8Bit
        at = frame.index(b"\xff\xc0") + 5
        frame[at : at + 4] = b"\xff\xf0\xff\xf0"
    else:
        syntax = JPEG2000Lossless
        made = compressed(dataset(smooth()), syntax)
        frame = bytearray(get_frame(made.PixelData, 0, number_of_frames=1))
        for at in (8, 12, 24, 28):
            frame[at : at + 4] = (60000).to_bytes(4, "big")
    path = save(encapsulated(dataset(smooth()), bytes(frame)), tmp_path / "image.dcm", syntax)
    with pytest.raises(ImageError, match="not as many as the header says") as raised:
        read_image(path)
    assert raised.value.reason == "unreadable image"


@pytest.mark.parametrize("seed", range(3))
def test_damage_anywhere_is_an_image_error_and_tells_nothing(seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    path = save(dataset(WindowCenter=1000, WindowWidth=500), tmp_path / "image.dcm")
    whole = path.read_bytes()
    errors = []
    for _ in range(60):
        damaged = bytearray(whole)
        for at in random.integers(128, len(whole) - 900, 5):
            damaged[at] = random.integers(256)
        path.write_bytes(damaged)
        errors.append(refusal(path))
    told = "".join("".join(traceback.format_exception(error)) for error in errors if error is not None)
    assert "ImageError" in told
    assert "CANARY" not in told


def test_no_patient_field_is_parsed_printed_or_logged(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    good = save(dataset(), tmp_path / "good.dcm")
    # A name where a number belongs is what pydicom's own message would quote.
    damaged = tmp_path / "damaged.dcm"
    damaged.write_bytes(
        save(dataset(WindowCenter=12345, WindowWidth=5), damaged).read_bytes().replace(b"12345.0 ", b"CANARY^P")
    )
    read = read_radiograph(good)
    assert "CANARY" not in repr(read)
    assert reason_of(damaged) == "unusable lookup table"
    with pytest.raises(ImageError) as raised:
        read_image(damaged)
    error: BaseException | None = raised.value
    while error is not None:
        assert "CANARY" not in repr(error)
        error = error.__context__
    assert b"CANARY" not in pickle.dumps(read)
    printed = capfd.readouterr()
    assert "CANARY" not in printed.out + printed.err + caplog.text
    parsed = dicom._parse(good.read_bytes(), good)
    assert CANARY.encode() in good.read_bytes()
    assert "CANARY" not in str(parsed)


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data/dicom")
@pytest.mark.parametrize(
    ("name", "shape", "view"),
    [
        ("chest_pa_mono1_jpeg2000", (1955, 1841), "PA"),
        ("cr_mono2_jpeg", (1024, 1024), "PA"),
        ("chest_implicit_vr", (1024, 1024), ""),
    ],
)
def test_real_radiographs_have_dark_lungs(name: str, shape: tuple[int, int], view: str) -> None:
    read = read_radiograph(REAL / f"{name}.dcm")
    assert read.pixels.shape == shape
    assert read.view == view
    rows, columns = shape
    middle = read.pixels[rows // 3 : rows // 2]
    lungs = middle[:, columns // 4 : columns // 3].mean(), middle[:, -columns // 3 : -columns // 4].mean()
    spine = middle[:, columns * 9 // 20 : columns * 11 // 20].mean()
    assert max(lungs) < spine - 0.05


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data/dicom")
def test_the_same_real_pixels_as_monochrome1_are_the_negative() -> None:
    one, two = (read_image(REAL / f"cr_mono{number}_jpeg.dcm") for number in (1, 2))
    np.testing.assert_allclose(one, 1 - two, atol=1e-6)


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data/dicom")
def test_a_real_rib_cage_is_refused() -> None:
    with pytest.raises(ImageError, match="not a chest") as raised:
        read_image(REAL / "not_a_chest.dcm")
    assert raised.value.reason == "not a chest"
