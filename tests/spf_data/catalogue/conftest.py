from importlib.util import find_spec
from pathlib import Path

import pytest
from spf_data.catalogue import CatalogueOptions, SelectionRule, make_catalogue
from spf_data.sources import PrepareOptions, open_i, padchest

from .helpers import rules

_PACKAGE = find_spec("torchxrayvision")
TABLES = Path(_PACKAGE.origin).parent / "data" if _PACKAGE and _PACKAGE.origin else None


def _prepared(source):
    if TABLES is None:
        pytest.skip("the package torchxrayvision is not installed")
    return source.prepare(PrepareOptions(root=TABLES, require_images=False))


@pytest.fixture(scope="session")
def padchest_catalogue():
    prepared = _prepared(padchest)
    return make_catalogue(prepared.manifest, prepared.findings, rules(), CatalogueOptions())


@pytest.fixture(scope="session")
def open_i_catalogue():
    prepared = _prepared(open_i)
    options = CatalogueOptions(SelectionRule(minimum_images=20, minimum_patients=20))
    return make_catalogue(prepared.manifest, prepared.findings, rules(), options)
