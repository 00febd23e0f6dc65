"""The images of a manifest to train on, from a cache: nothing of them, and no path, is held in memory."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from spf_data.columns import has_columns, read_columns, write_columns
from spf_data.dataset import XrayDataset
from spf_data.image_cache import CachedImages, ImageCache
from spf_data.image_cache.layout import STATUS, check_key, key_of
from spf_data.label_places import label_set_of
from spf_data.labels import Label, LabelSet
from spf_data.lung_boxes import boxes_path, read_lung_boxes
from spf_data.manifest import Manifest, read_manifest

SplitFrom = Literal["manifest", "settings"]

NO_LABELS = "no known label"
# To be raised whenever the same manifest gives other columns.
_VERSION = "1"
_ATTRIBUTE = "attribute-"


@dataclass(frozen=True)
class Selection:
    """What of a manifest is used.

    Raises:
        ValueError: If `split_from` is neither of its values.

    Attributes:
        labels: Names of the labels, in this order; all of the manifest's if None.
        require_labels: Leave out images without a single known label, and report how many.
        split_from: "manifest": the data set has the manifest's split; "settings": it has none, so that those who train
            split by patient as their settings say.
    """

    labels: tuple[str, ...] | None = None
    require_labels: bool = True
    split_from: SplitFrom = "manifest"

    def __post_init__(self) -> None:
        if self.split_from not in get_args(SplitFrom):
            raise ValueError(f"split_from must be one of {get_args(SplitFrom)}, got {self.split_from!r}")


class ManifestDataset(XrayDataset):
    """Images of a manifest. It pickles to two paths; each process maps the same files into its memory.

    Rows are those of the manifest, in order, without images that could not be read or, if so chosen, without labels:
    `report` counts them.

    Attributes:
        manifest_rows: int64 (N,): the manifest's row of each image.
    """

    def __init__(self, cache: Path, columns: Path) -> None:
        """Open what `open_manifest_dataset` has made.

        Args:
            cache: Folder of the image cache.
            columns: Folder of everything else.

        Raises:
            FileNotFoundError: If a folder is not there.
            ValueError: If one is damaged, or the cache is not finished.
        """
        self._folders = (cache, columns)
        arrays, facts = read_columns(columns)
        self.manifest_rows: npt.NDArray[np.int64] = arrays["rows"]
        super().__init__(
            label_set=LabelSet(tuple(Label(**label) for label in facts["labels"])),
            images=CachedImages(ImageCache(cache).images, self.manifest_rows),
            labels=arrays["labels"],
            patients=arrays["patients"],
            sources=arrays["sources"],
            report=facts["report"],
            lung_boxes=arrays["lung_boxes"],
            attributes={
                name.removeprefix(_ATTRIBUTE): array for name, array in arrays.items() if name.startswith(_ATTRIBUTE)
            },
            split=arrays.get("split"),
        )

    def __reduce__(self) -> tuple[type["ManifestDataset"], tuple[Path, Path]]:
        return type(self), self._folders


def open_manifest_dataset(manifest: Path, cache: Path, image_size: int, selection: Selection) -> ManifestDataset:
    """The data set of a manifest whose images have been cached.

    Everything but the images is written once to `cache`/columns, for each manifest and selection.

    Args:
        manifest: The manifest; the lungs' boxes are read from `boxes_path(manifest)`, if it is there.
        cache: Folder of the finished image cache.
        image_size: Pixels a side.
        selection: What of the manifest is used.

    Raises:
        FileNotFoundError: If the manifest or the cache is not there.
        ValueError: If the cache is another manifest's or not finished, the labels do not make a label set (see
            `label_set_of`), or no row is left.
    """
    images = ImageCache(cache)
    columns = cache / "columns" / _columns_key(manifest, cache, image_size, selection)
    if not has_columns(columns):
        table = read_manifest(manifest)
        check_key(cache, key_of(table, image_size))
        arrays, facts = _make_columns(table, boxes_path(manifest), images, selection)
        write_columns(columns, arrays, facts)
    return ManifestDataset(cache, columns)


def _columns_key(manifest: Path, cache: Path, image_size: int, selection: Selection) -> str:
    """A name for what the columns follow from."""
    if not manifest.is_file():
        raise FileNotFoundError(f"{manifest} does not exist")
    digest = hashlib.sha256(json.dumps([_VERSION, image_size, asdict(selection)]).encode())
    for path in (manifest, boxes_path(manifest), cache / STATUS):
        content = path.read_bytes() if path.exists() else b""
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()[:32]


def _make_columns(
    manifest: Manifest, boxes: Path, cache: ImageCache, selection: Selection
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    label_set = label_set_of(manifest, selection.labels)
    labels = _labels(manifest, label_set.names)
    kept = cache.readable.copy()
    report = cache.unreadable_counts()
    if selection.require_labels:
        empty = kept & np.isnan(labels).all(axis=1)
        kept &= ~empty
        report |= {NO_LABELS: int(empty.sum())} if empty.any() else {}
    rows = np.flatnonzero(kept)
    if not len(rows):
        raise ValueError(f"the manifest has no usable row; dropped: {report}")
    lungs = read_lung_boxes(boxes, manifest, np.asarray(cache.sources[:, :2]))
    columns = {
        "labels": labels,
        "lung_boxes": lungs,
        "patients": np.array(manifest.column("patient")),
        "sources": np.array(manifest.column("source")),
        **{_ATTRIBUTE + name: values for name, values in _attributes(manifest).items()},
    }
    if selection.split_from == "manifest":
        columns["split"] = np.array(manifest.column("split"))
    arrays = {name: column[rows] for name, column in columns.items()}
    return {"rows": rows, **arrays}, {"labels": [asdict(label) for label in label_set.labels], "report": report}


def _labels(manifest: Manifest, names: Sequence[str]) -> npt.NDArray[np.float32]:
    columns = [manifest.label_names.index(name) for name in names]
    return np.ascontiguousarray(manifest.labels()[:, columns])


def _attributes(manifest: Manifest) -> dict[str, npt.NDArray[np.str_]]:
    """Sex, age and view as `XrayDataset.attributes` has them."""
    ages = manifest.table.column("age").to_pylist()
    # "AP supine" is a view from the front, too; "frontal" is PA or AP, not known which.
    views = [view.partition(" ")[0] for view in manifest.column("view")]
    return {
        "sex": np.array(manifest.column("sex")),
        "age": np.array(["" if age is None else f"{age:g}" for age in ages]),
        "view": np.array(["" if view == "frontal" else view for view in views]),
    }
