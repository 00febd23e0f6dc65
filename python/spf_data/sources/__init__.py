"""Adapters: from the download of a public data set to one manifest, and the count of what was left out."""

from collections.abc import Callable

from spf_data.sources import (
    cxr_zones_source,
    imagenome,
    mimic,
    ms_cxr,
    nih,
    open_i,
    own_csv,
    padchest,
    padchest_gr,
)
from spf_data.sources.collect import Prepared
from spf_data.sources.licences import LICENCES, Licence
from spf_data.sources.options import PrepareOptions
from spf_data.sources.write import write_prepared

SOURCES: dict[str, Callable[[PrepareOptions], Prepared]] = {
    "mimic-cxr": mimic.prepare,
    "chest-imagenome": imagenome.prepare,
    "nih": nih.prepare,
    "padchest": padchest.prepare,
    "open-i": open_i.prepare,
    "padchest-gr": padchest_gr.prepare,
    "ms-cxr": ms_cxr.prepare,
    "cxr-zones": cxr_zones_source.prepare,
    "own": own_csv.prepare,
}

__all__ = ["LICENCES", "SOURCES", "Licence", "PrepareOptions", "Prepared", "write_prepared"]
