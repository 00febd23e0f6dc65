"""One phantom image: anatomy, findings, masks, and the picture made of them."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from spf_data.phantom import parenchyma, pleura
from spf_data.phantom.anatomy import BoolArray, FloatArray, Hemithorax, Patient, hemithorax
from spf_data.phantom.central import Central, central_tissue, no_central_tissue
from spf_data.phantom.config import PhantomConfig
from spf_data.phantom.drawing import Canvas, Draw, FindingSpec, between
from spf_data.phantom.tissue import side_tissue

DRAW: dict[str, Draw] = {
    "consolidation": parenchyma.consolidation,
    "nodule": parenchyma.nodule,
    "interstitial opacity": parenchyma.interstitial_opacity,
    "mass": parenchyma.mass,
    "cavity": parenchyma.cavity,
    "calcified granuloma": parenchyma.calcified_granuloma,
    "bulla": parenchyma.bulla,
    "basal atelectasis": parenchyma.basal_atelectasis,
    "hilar enlargement": parenchyma.hilar_enlargement,
    "pleural effusion": pleura.pleural_effusion,
    "apical pneumothorax": pleura.apical_pneumothorax,
    "pneumothorax": pleura.pneumothorax,
    "elevated hemidiaphragm": pleura.elevated_hemidiaphragm,
    "apical pleural thickening": pleura.apical_pleural_thickening,
    "rib fracture": pleura.rib_fracture,
    "subcutaneous emphysema": pleura.subcutaneous_emphysema,
}


@dataclass(frozen=True)
class View:
    """How one image of a patient was taken.

    Attributes:
        shift: Displacement of the patient along x and y, in shares of the image's width.
        turn: Obliqueness: one side looks wider by this share, the other narrower.
        exposure: Scales the absorption.
        gamma: Exponent of the display curve.
    """

    shift: tuple[float, float]
    turn: float
    exposure: float
    gamma: float


@dataclass(frozen=True)
class Scene:
    """A rendered image before noise.

    Attributes:
        image: float32 (H, W) in [0, 1], bright where dense.
        specs: Its findings.
        masks: One bool (H, W) a finding.
        lungs: The two sides, right first. Their columns are those from before the translated anatomy is rolled into
            place; their rows hold for the image.
        lung_boxes: float32 (2, 4) boxes (x, y, width, height) around the right and the left lung in the image, as
            shares of its side. A lung of the translated anatomy that is rolled across the border keeps one box, which
            reaches beyond it.
    """

    image: FloatArray
    specs: tuple[FindingSpec, ...]
    masks: tuple[BoolArray, ...]
    lungs: tuple[Hemithorax, Hemithorax]
    lung_boxes: FloatArray


def sample_view(random: np.random.Generator, config: PhantomConfig) -> View:
    """Draw how an image was taken."""
    horizontal, vertical, turn, exposure, gamma = random.uniform(-1, 1, 5)
    return View(
        shift=(config.shift * horizontal, config.shift * vertical),
        turn=0.06 * turn if config.anatomy == "normal" else 0.0,
        exposure=1 + 0.12 * exposure,
        gamma=1 + 0.15 * gamma,
    )


def render(patient: Patient, view: View, specs: tuple[FindingSpec, ...], config: PhantomConfig) -> Scene:
    """Paint an image without noise.

    Args:
        patient: Whose chest it is.
        view: How the image was taken.
        specs: Its findings.
        config: Size, anatomy, and the scales of size and contrast.
    """
    translated = config.anatomy == "translated"
    size = config.image_size
    if translated:
        patient = _translated_patient(patient)
    patient = _changed_patient(patient, specs, config)
    raised = _raised_patient(patient, specs, config)
    y = ((np.arange(size, dtype=np.float32) + 0.5) / size - np.float32(view.shift[1]))[:, None]
    x = ((np.arange(size, dtype=np.float32) + 0.5) / size - np.float32(0.5))[None, :]
    if not translated:
        x = x - np.float32(view.shift[0])
    lungs = (_lung(raised, 0, x, y, view, config), _lung(raised, 1, x, y, view, config))
    central = no_central_tissue(size) if translated else central_tissue(patient, x, y, _whole(lungs))

    absorption = central.absorption
    masks = [_central_mask(spec, central) for spec in specs]
    for lung in lungs:
        # Vessels differ from side to side, except where nothing may.
        layers = side_tissue(raised, lung, patient.texture_seed + (0 if translated else lung.side))
        absorption[:, lung.columns] += layers.absorption
        canvas = Canvas(patient, raised, lung, layers, config.finding_size, config.contrast)
        # Where the heart stands there is less lung for a finding to fill.
        room = 1 - np.float32(0.6) * central.heart[:, lung.columns]
        for spec, mask in zip(specs, masks, strict=True):
            if spec.side == lung.side and spec.name in DRAW:
                drawn = DRAW[spec.name](canvas, spec)
                absorption[:, lung.columns] += room * drawn.absorption
                mask[:, lung.columns] = drawn.mask
    boxes = np.array([lung.bounding_box() for lung in lungs], dtype=np.float32)
    if translated:
        columns = round(view.shift[0] * size)
        absorption, masks = _close_seams(absorption, masks, lungs[0].distance, columns)
        boxes[:, 0] += np.float32(columns / size)
    return Scene(_display(absorption, view), specs, tuple(masks), lungs, boxes)


def _whole(lungs: tuple[Hemithorax, Hemithorax]) -> FloatArray:
    return np.concatenate([lung.lung for lung in lungs], axis=1)


def _close_seams(
    absorption: FloatArray, masks: list[BoolArray], distance: FloatArray, shift: int
) -> tuple[FloatArray, list[BoolArray]]:
    """Let the halves of the translated anatomy meet in a smooth band, and roll them into place."""
    to_seam = np.minimum(distance, 0.5 - distance)
    share = np.clip(to_seam / np.float32(0.05), 0, 1)
    share = np.tile(share * share * (3 - 2 * share), 2)
    joined = absorption * share + np.float32(0.75) * (1 - share)
    return np.roll(joined, shift, axis=1), [np.roll(mask, shift, axis=1) for mask in masks]


def _lung(patient: Patient, side: int, x: FloatArray, y: FloatArray, view: View, config: PhantomConfig) -> Hemithorax:
    """One side on its columns.

    The left half of the translated anatomy is given the very distances of the right half: a copy, not a mirror image.
    """
    size = config.image_size
    if config.anatomy == "translated":
        half = size // 2
        return hemithorax(patient, side, slice(side * half, side * half + half), -x[:, :half], y)
    middle = int(np.searchsorted(x[0], 0.0))
    columns = slice(0, middle) if side == 0 else slice(middle, size)
    scale = np.float32(1 + view.turn if side == 0 else 1 - view.turn)
    return hemithorax(patient, side, columns, np.abs(x[:, columns]) * scale, y)


def _translated_patient(patient: Patient) -> Patient:
    """One half is a copy of the other, and tissue reaches every border: no dark air at the seams."""
    apex, base, lateral, dome = (pair[0] for pair in (patient.apex, patient.base, patient.lateral, patient.dome))
    return replace(
        patient,
        apex=(apex, apex),
        base=(base, base),
        lateral=(lateral, lateral),
        dome=(dome, dome),
        body=0.8,
        shoulder=-0.3,
    )


def _changed_patient(patient: Patient, specs: tuple[FindingSpec, ...], config: PhantomConfig) -> Patient:
    """Findings of the heart and mediastinum are another shape of the anatomy."""
    for spec in specs:
        if spec.name == "enlarged cardiac silhouette":
            patient = replace(patient, heart=patient.heart * between(1.13, 1.4, spec.size))
        if spec.name == "widened mediastinum":
            wider = between(0.010, 0.032, spec.size) * config.finding_size
            patient = replace(patient, mediastinum=patient.mediastinum + wider)
    return patient


def _raised_patient(patient: Patient, specs: tuple[FindingSpec, ...], config: PhantomConfig) -> Patient:
    base = list(patient.base)
    for spec in specs:
        if spec.name == "elevated hemidiaphragm":
            base[spec.side] -= between(0.045, 0.11, spec.size) * config.finding_size
    return replace(patient, base=(base[0], base[1]))


def _central_mask(spec: FindingSpec, central: Central) -> BoolArray:
    """Findings of the heart and mediastinum cover them whole; the masks of others are still empty."""
    if spec.name == "enlarged cardiac silhouette":
        return central.heart > 0.5
    if spec.name == "widened mediastinum":
        return central.mediastinum
    return np.zeros_like(central.mediastinum)


def _display(absorption: FloatArray, view: View) -> FloatArray:
    """The curve of a digital radiograph: dense is bright, the densest saturates."""
    exposed = 1 - np.exp(np.float32(-1.9 * view.exposure) * np.maximum(absorption, 0))
    return np.asarray(exposed ** np.float32(view.gamma), dtype=np.float32)


def add_noise(image: FloatArray, random: np.random.Generator, noise: float) -> npt.NDArray[np.uint8]:
    """Add pixel noise and round to 8 bits."""
    noisy = image + random.standard_normal(image.shape, dtype=np.float32) * np.float32(noise)
    return to_bytes(noisy)


def to_bytes(image: FloatArray) -> npt.NDArray[np.uint8]:
    """Clip to [0, 1] and round to 8 bits."""
    return np.asarray(np.clip(image, 0, 1) * 255 + np.float32(0.5), dtype=np.float32).astype(np.uint8)
