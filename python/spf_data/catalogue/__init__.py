"""Label sets that say where, chosen by count from a prepared data set."""

from spf_data.catalogue.catalogue import Catalogue, CatalogueOptions, make_catalogue
from spf_data.catalogue.label_set_file import LabelSetFile, read_label_set
from spf_data.catalogue.labelling import Policies
from spf_data.catalogue.places import Combination, Rules, load_rules
from spf_data.catalogue.selection import SelectionRule
from spf_data.catalogue.write import summary, write_catalogue

__all__ = [
    "Catalogue",
    "CatalogueOptions",
    "Combination",
    "LabelSetFile",
    "Policies",
    "Rules",
    "SelectionRule",
    "load_rules",
    "make_catalogue",
    "read_label_set",
    "summary",
    "write_catalogue",
]
