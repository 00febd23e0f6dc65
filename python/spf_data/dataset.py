"""The contract every data set of this package keeps."""

from typing import TypedDict

import numpy as np
import numpy.typing as npt
import torch

from spf_data.labels import LabelSet


class Sample(TypedDict):
    """One image with its labels.

    Keys:
        image: float32 (channels, H, W) in [0, 1].
        labels: float32 (L,): 1 present, 0 absent, NaN not known.
        index: Row of the data set.
    """

    image: torch.Tensor
    labels: torch.Tensor
    index: int


class XrayDataset(torch.utils.data.Dataset[Sample]):
    """Images held in memory as 8-bit arrays, with labels, patients and sources row by row.

    Attributes:
        label_set: What the columns of `labels` mean.
        image_size: Height and width of the images, in pixels.
        channels: Number of channels of an image.
        patients: str (N,): who is on the image. Split on this, never on the image.
        sources: str (N,): where the image comes from.
        labels: float32 (N, L): 1 present, 0 absent, NaN not known.
        report: How many rows were dropped, by reason; empty where none were.
    """

    def __init__(
        self,
        *,
        label_set: LabelSet,
        images: npt.NDArray[np.uint8],
        labels: npt.NDArray[np.float32],
        patients: npt.NDArray[np.str_],
        sources: npt.NDArray[np.str_],
        report: dict[str, int],
    ) -> None:
        """Take the rows of a data set.

        Args:
            label_set: L labels.
            images: uint8 (N, channels, S, S).
            labels: float32 (N, L) of 1, 0 and NaN.
            patients: str (N,).
            sources: str (N,).
            report: Number of rows dropped, by reason.

        Raises:
            TypeError: If `images` is not uint8 or `labels` not float32.
            ValueError: If the shapes do not fit together, or a label is not 1, 0 or NaN.
        """
        _check_rows(label_set, images, labels, patients, sources)
        self.label_set = label_set
        self.channels = images.shape[1]
        self.image_size = images.shape[2]
        self.patients = patients
        self.sources = sources
        self.labels = torch.from_numpy(labels)
        self.report = report
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Sample:
        """Image, labels and row number of row `index` (negative indices count from the end).

        Raises:
            IndexError: If there is no such row.
        """
        index = self._row(index)
        image = torch.from_numpy(self._images[index]).to(torch.float32) / 255
        return {"image": image, "labels": self.labels[index], "index": index}

    def mask(self, index: int) -> npt.NDArray[np.bool_]:
        """Where each label's finding is: bool (L, H, W).

        Raises:
            NotImplementedError: If the data set has no masks.
        """
        raise NotImplementedError(f"{type(self).__name__} has no finding masks (asked for row {index})")

    def _row(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            raise IndexError(f"index must be within the {len(self)} rows, got {index}")
        return int(index) % len(self)


def _check_rows(
    label_set: LabelSet,
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.float32],
    patients: npt.NDArray[np.str_],
    sources: npt.NDArray[np.str_],
) -> None:
    if images.dtype != np.uint8:
        raise TypeError(f"images must be uint8, got {images.dtype}")
    if labels.dtype != np.float32:
        raise TypeError(f"labels must be float32, got {labels.dtype}")
    if images.ndim != 4 or images.shape[2] != images.shape[3]:
        raise ValueError(f"images must be (N, channels, S, S), got {images.shape}")
    if labels.shape != (len(images), len(label_set)):
        raise ValueError(f"labels must be ({len(images)}, {len(label_set)}), got {labels.shape}")
    if patients.shape != (len(images),) or sources.shape != (len(images),):
        raise ValueError(f"patients and sources must be ({len(images)},), got {patients.shape} and {sources.shape}")
    if not np.all(np.isnan(labels) | (labels == 0) | (labels == 1)):
        raise ValueError("labels must be 1, 0 or NaN")
