"""Chest radiographs with location-specific labels: a procedural phantom, real data, labels and splits."""

from spf_data.cxr_zones import CxrZonesDataset
from spf_data.dataset import Sample, XrayDataset
from spf_data.labels import Label, LabelSet
from spf_data.phantom import PhantomConfig, PhantomDataset
from spf_data.registry import DataConfig, build_dataset
from spf_data.splits import grouped_split

__all__ = [
    "CxrZonesDataset",
    "DataConfig",
    "Label",
    "LabelSet",
    "PhantomConfig",
    "PhantomDataset",
    "Sample",
    "XrayDataset",
    "build_dataset",
    "grouped_split",
]
