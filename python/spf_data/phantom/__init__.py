"""Procedural chest radiographs with location-specific findings, their labels and their masks."""

from spf_data.phantom.config import PhantomConfig
from spf_data.phantom.dataset import PhantomDataset

__all__ = ["PhantomConfig", "PhantomDataset"]
