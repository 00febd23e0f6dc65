"""The phantom as a data set."""

import numpy as np
import numpy.typing as npt

from spf_data.dataset import XrayDataset
from spf_data.phantom.anatomy import sample_patient
from spf_data.phantom.catalogue import FINDINGS, label_set
from spf_data.phantom.config import PhantomConfig
from spf_data.phantom.maps import finding_maps
from spf_data.phantom.plan import sample_findings
from spf_data.phantom.scene import Scene, add_noise, render, sample_view
from spf_data.phantom.truth import label_masks, labels_of

# First numbers of the seeds of independent streams: image (with its findings), patient, images per patient, noise.
_IMAGE, _PATIENT, _COUNTS, _NOISE = range(4)


class PhantomDataset(XrayDataset):
    """Procedural chest radiographs that know where their findings are.

    Everything is generated when the data set is made and then held as 8-bit arrays, in mode "maps" 18 of them an image:
    labels follow from the findings' masks, so every image has to be laid out in any case. Image i follows from
    (seed, i) and its patient alone, not from how many others there are. All images of a patient share the anatomy;
    findings, position and exposure are drawn anew.

    The patient's right is on the image's left, as on any radiograph. See `spf_data.phantom.truth` for the rules from
    masks to labels, and `spf_data.phantom.catalogue` for the labels and how often each finding occurs.

    With `anatomy="translated"` the right half of the image is the left half moved by half the width: the same lung,
    the same ribs, the same borders, no heart, no spine. A finding looks the same on either side, and its position is
    all that tells the side. A mirrored anatomy would not do: the chest wall stands left of the right lung and right of
    the left lung, so every oriented edge (and every rib, which falls outwards) reveals the side to a network that
    pools all positions away. Here the image of a right finding, rolled by half the width, IS the image of the same
    finding on the left. So a network that is equivariant to rolls (circular padding, strides that divide half the
    width) and then pools over all positions gives both the same score. An elevated hemidiaphragm raises one half's
    lower border; the two labels without a side are dropped, because there is neither heart nor mediastinum.

    Attributes:
        config: The settings.
    """

    def __init__(self, config: PhantomConfig) -> None:
        """Generate the data set, at about 3 ms an image of 128x128 on one core."""
        self.config = config
        labels = label_set(translated=config.anatomy == "translated")
        channels = len(FINDINGS) if config.mode == "maps" else 1
        patients = _patient_of_image(config)
        self._patient_numbers = patients
        images = np.empty((config.num_images, channels, config.image_size, config.image_size), dtype=np.uint8)
        rows = np.empty((config.num_images, len(labels)), dtype=np.float32)
        boxes = np.empty((config.num_images, 2, 4), dtype=np.float32)
        for index in range(config.num_images):
            scene = self.scene(index)
            images[index] = self._finish(scene, index)
            rows[index] = labels_of(scene, labels)
            boxes[index] = scene.lung_boxes
        super().__init__(
            label_set=labels,
            images=images,
            labels=rows,
            patients=np.array([f"phantom-{config.seed}-{number}" for number in patients]),
            sources=np.full(config.num_images, "phantom"),
            report={},
            lung_boxes=boxes,
        )

    def scene(self, index: int) -> Scene:
        """Paint image `index` again, without noise, with its findings and their masks.

        Raises:
            IndexError: If there is no such image.
        """
        if not -self.config.num_images <= index < self.config.num_images:
            raise IndexError(f"index must be within the {self.config.num_images} images, got {index}")
        index %= self.config.num_images
        patient = sample_patient(_stream(self.config.seed, _PATIENT, int(self._patient_numbers[index])))
        random = _stream(self.config.seed, _IMAGE, index)
        view = sample_view(random, self.config)
        specs = sample_findings(random, translated=self.config.anatomy == "translated")
        return render(patient, view, specs, self.config)

    def mask(self, index: int) -> npt.NDArray[np.bool_]:
        """Where each label's finding is: bool (L, H, W), empty exactly where the label is 0; painted again on demand.

        Raises:
            IndexError: If there is no such image.
        """
        return label_masks(self.scene(index), self.label_set)

    def _finish(self, scene: Scene, index: int) -> npt.NDArray[np.uint8]:
        random = _stream(self.config.seed, _NOISE, index)
        if self.config.mode == "maps":
            return finding_maps(scene, random, self.config.noise)
        return add_noise(scene.image, random, self.config.noise)[None]


def _stream(seed: int, purpose: int, number: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, purpose, number])))


def _patient_of_image(config: PhantomConfig) -> npt.NDArray[np.int64]:
    """Number of the patient of each image. More images leave the patients of the first ones as they are."""
    counts = _stream(config.seed, _COUNTS, 0).integers(1, 4, config.num_images)
    return np.repeat(np.arange(config.num_images), counts)[: config.num_images]
