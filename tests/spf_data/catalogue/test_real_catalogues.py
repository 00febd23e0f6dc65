"""PadChest's and Open-i's tables inside the package torchxrayvision, whole; docs/catalogue.md shows the counts."""

from pathlib import Path

import numpy as np
import pytest
from spf_data.catalogue.tables import label_table, part_table, place_table

from .helpers import label

DOCS = Path(__file__).resolve().parents[3] / "docs" / "catalogue.md"


def test_padchest_s_57_labels(padchest_catalogue):
    catalogue = padchest_catalogue
    assert len(catalogue.manifest) == 102_574
    assert catalogue.left_out == {"not frontal": 0, "younger than 18": 5_067, "kept, of unknown age": 3}
    assert len(catalogue.label_set) == 57
    covered = catalogue.any_present()
    assert (covered.images, covered.patients) == (31_732, 18_869)
    chosen = [place for place in catalogue.selection.chosen if place not in catalogue.rules.always]
    assert min(catalogue.counts[place].images for place in chosen) == 395
    assert catalogue.counts[label("bilateral|pleural effusion")].images == 2_552
    assert catalogue.counts[label("right|elevated diaphragm")].images == 926
    assert catalogue.counts[label("right lower lobe|pleural effusion")].images == 88
    assert label("left lower lobe|pneumothorax") not in catalogue.counts
    assert catalogue.level == "study"


def test_nothing_of_padchest_vanishes(padchest_catalogue):
    assert sum(padchest_catalogue.unread.findings.values()) == 10_796
    assert padchest_catalogue.unread.findings.most_common(1) == [("chronic changes", 4_769)]
    assert set(padchest_catalogue.unread.places) == {
        "paravertebral",
        "paracardiac",
        "esophageal",
        "extrapleural",
        "extrapulmonary",
        "supradiaphragm",
    }


@pytest.mark.parametrize("name", ["padchest_catalogue", "open_i_catalogue"])
def test_bilateral_is_both_sides_and_a_region_is_its_side(name, request):
    catalogue = request.getfixturevalue(name)
    labels = catalogue.manifest.labels()
    column = {place: labels[:, index] for index, place in enumerate(catalogue.selection.chosen)}
    pairs = 0
    for place, values in column.items():
        larger = [place._replace(region="")] if place.region else []
        larger += [place._replace(side=side) for side in ("left", "right")] if place.side == "bilateral" else []
        for other in larger:
            if other in column:
                pairs += 1
                assert (column[other][values == 1] == 1).all()
                assert (values[column[other] == 0] == 0).all()
    assert pairs > 20
    assert np.isnan(labels).any()


def test_open_i_s_labels(open_i_catalogue):
    assert len(open_i_catalogue.manifest) == 5_025
    assert len(open_i_catalogue.label_set) == 44
    covered = open_i_catalogue.any_present()
    assert (covered.images, covered.patients) == (1_423, 1_039)
    assert sum(open_i_catalogue.unread.findings.values()) == 88


@pytest.mark.parametrize("name", ["padchest_catalogue", "open_i_catalogue"])
def test_the_documented_tables_are_these(name, request):
    catalogue = request.getfixturevalue(name)
    text = DOCS.read_text()
    assert label_table(catalogue) in text
    assert part_table(catalogue) in text
    assert place_table(catalogue, catalogue.options.rule.minimum_images) in text
