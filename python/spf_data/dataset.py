"""The contract every data set of this package keeps."""

from collections.abc import Mapping
from typing import Any, Protocol, TypedDict

import numpy as np
import numpy.typing as npt
import torch

from spf_data.labels import LabelSet
from spf_data.splits import PARTS, grouped_split, own_split

_BLOCK = 16_384


class Sample(TypedDict):
    """One image with its labels.

    Keys:
        image: float32 (channels, H, W) in [0, 1].
        labels: float32 (L,): 1 present, 0 absent, NaN not known.
        lungs: float32 (2, 4): boxes of the patient's right and left lung, see `XrayDataset.lung_boxes`.
        index: Row of the data set.
    """

    image: torch.Tensor
    labels: torch.Tensor
    lungs: torch.Tensor
    index: int


class Images(Protocol):
    """Where images come from: an array, or something that reads one when it is asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, channels, S, S)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> npt.NDArray[np.uint8]: ...


class XrayDataset(torch.utils.data.Dataset[Sample]):
    """Images of 8 bits, with labels, patients and sources row by row.

    Attributes:
        label_set: What the columns of `labels` mean.
        image_size: Height and width of the images, in pixels.
        channels: Number of channels of an image.
        patients: str (N,): who is on the image. Split on this, never on the image.
        sources: str (N,): where the image comes from.
        labels: float32 (N, L): 1 present, 0 absent, NaN not known.
        lung_boxes: float32 (N, 2, 4): boxes (x, y, width, height) around the PATIENT's right and left lung as shares of
            the image's side, from its upper left corner; NaN where not known. They may reach beyond the image.
        report: How many rows were dropped, by reason; empty where none were.
        attributes: str (N,) by name, "" where not known, to report subgroups by: "sex" ("F", "M"), "age" (in years),
            "view" ("PA", "AP"); empty where nothing is known.
        split: str (N,): "train", "validation" or "test", of a data set that brings its own split; else None.
    """

    def __init__(
        self,
        *,
        label_set: LabelSet,
        images: Images,
        labels: npt.NDArray[np.float32],
        patients: npt.NDArray[np.str_],
        sources: npt.NDArray[np.str_],
        report: dict[str, int],
        lung_boxes: npt.NDArray[np.float32] | None = None,
        attributes: Mapping[str, npt.NDArray[np.str_]] | None = None,
        split: npt.NDArray[np.str_] | None = None,
    ) -> None:
        """Take the rows of a data set.

        Args:
            label_set: L labels.
            images: uint8 (N, channels, S, S).
            labels: float32 (N, L) of 1, 0 and NaN.
            patients: str (N,).
            sources: str (N,).
            report: Number of rows dropped, by reason.
            lung_boxes: float32 (N, 2, 4), NaN where not known; none where no box is known.
            attributes: str (N,) by name; none where nothing is known.
            split: str (N,), the part of each row; none where there is no split yet.

        Raises:
            TypeError: If `images` is not uint8, or `labels` or `lung_boxes` not float32.
            ValueError: If the shapes do not fit together, a label is not 1, 0 or NaN, or a box is neither unknown nor
                finite with an area.
        """
        _check_rows(label_set, images, labels, patients, sources)
        if lung_boxes is None:
            lung_boxes = np.full((len(images), 2, 4), np.nan, dtype=np.float32)
        _check_lung_boxes(lung_boxes, len(images))
        self.attributes = dict(attributes or {})
        for name, values in self.attributes.items():
            if values.shape != (len(images),):
                raise ValueError(f"attribute {name!r} must be ({len(images)},), got {values.shape}")
        if split is not None:
            _check_split(split, len(images))
        self.split = split
        self.label_set = label_set
        self.channels = images.shape[1]
        self.image_size = images.shape[2]
        self.patients = patients
        self.sources = sources
        self.labels = torch.from_numpy(labels)
        self.lung_boxes = torch.from_numpy(lung_boxes)
        self.report = report
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Sample:
        """Image, labels, lungs and row number of row `index` (negative indices count from the end).

        Raises:
            IndexError: If there is no such row.
        """
        index = self._row(index)
        image = torch.from_numpy(self._images[index]).to(torch.float32) / 255
        return {"image": image, "labels": self.labels[index], "lungs": self.lung_boxes[index], "index": index}

    @property
    def dropped(self) -> str:
        """`report` in words: "818 rows (no known label)"; "0" where nothing was dropped."""
        return ", ".join(f"{count} rows ({reason})" for reason, count in self.report.items()) or "0"

    def parts(self, fractions: tuple[float, float, float], seed: int) -> dict[str, npt.NDArray[np.int64]]:
        """The data set's own split, if it brings one, or else `grouped_split` of its patients.

        Args:
            fractions: Expected share of the patients in train, validation and test.
            seed: Another seed gives another split.

        Returns:
            Row numbers (int64, ascending) under "train", "validation" and "test".

        Raises:
            ValueError: If a patient is in two parts of the own split, or what `grouped_split` raises.
        """
        if self.split is None:
            return grouped_split(self.patients, fractions, seed)
        return own_split(self.patients.tolist(), self.split.tolist())

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
    images: Images,
    labels: npt.NDArray[np.float32],
    patients: npt.NDArray[np.str_],
    sources: npt.NDArray[np.str_],
) -> None:
    if images.dtype != np.uint8:
        raise TypeError(f"images must be uint8, got {images.dtype}")
    if labels.dtype != np.float32:
        raise TypeError(f"labels must be float32, got {labels.dtype}")
    if len(images.shape) != 4 or images.shape[2] != images.shape[3]:
        raise ValueError(f"images must be (N, channels, S, S), got {images.shape}")
    if labels.shape != (len(images), len(label_set)):
        raise ValueError(f"labels must be ({len(images)}, {len(label_set)}), got {labels.shape}")
    if patients.shape != (len(images),) or sources.shape != (len(images),):
        raise ValueError(f"patients and sources must be ({len(images)},), got {patients.shape} and {sources.shape}")
    # In blocks: a worker process that opens a large data set needs no memory of that size.
    for start in range(0, len(labels), _BLOCK):
        block = labels[start : start + _BLOCK]
        if not np.all(np.isnan(block) | (block == 0) | (block == 1)):
            raise ValueError("labels must be 1, 0 or NaN")


def _check_split(split: npt.NDArray[np.str_], rows: int) -> None:
    if split.shape != (rows,):
        raise ValueError(f"split must be ({rows},), got {split.shape}")
    known = np.logical_or.reduce([split == part for part in PARTS])
    if not known.all():
        raise ValueError(f"split must be one of {PARTS}, got {str(split[~known][0])!r}")


def _check_lung_boxes(boxes: npt.NDArray[np.float32], rows: int) -> None:
    if boxes.dtype != np.float32:
        raise TypeError(f"lung_boxes must be float32, got {boxes.dtype}")
    if boxes.shape != (rows, 2, 4):
        raise ValueError(f"lung_boxes must be ({rows}, 2, 4), got {boxes.shape}")
    unknown = np.isnan(boxes).all(axis=2)
    usable = np.isfinite(boxes).all(axis=2) & (boxes[..., 2:] > 0).all(axis=2)
    if not np.all(unknown | usable):
        row, lung = np.argwhere(~(unknown | usable))[0]
        raise ValueError(
            f"lung_boxes must be NaN or finite with positive width and height, got {boxes[row, lung].tolist()} "
            f"in row {row}"
        )
