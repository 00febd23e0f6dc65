import pytest
from spf_data.catalogue import Combination, load_rules
from spf_data.labels import Label
from spf_data.vocabulary import FOLDER

from .helpers import label, rules, said, vocabulary


@pytest.mark.parametrize(
    ("finding", "region", "relation"),
    [
        ("left base|opacity", "base", "same"),
        ("left base|opacity", "", "inside"),
        ("left|opacity", "", "same"),
        ("left|opacity", "base", "around"),
        ("left lung|opacity", "base", "around"),
        ("left lung|opacity", "", "same"),
        ("left lingula|opacity", "middle lobe", "same"),
        ("left base|opacity", "apex", "elsewhere"),
        ("left base|opacity", "lower lobe", "overlaps"),
        ("left base+perihilar|opacity", "hilum", "same"),
        ("left base+perihilar|opacity", "apex", "elsewhere"),
        ("left|pleural effusion", "", "same"),
        ("left|pleural effusion", "base", "around"),
        ("left costophrenic angle|pleural effusion", "costophrenic angle", "same"),
        ("left|blunted costophrenic angle", "costophrenic angle", "around"),
        ("left hilum|enlarged hilum", "", "same"),
        ("pleura+base|opacity", "apex", "elsewhere"),
    ],
)
def test_how_places_lie_to_each_other(finding, region, relation):
    assert rules().relation(said(finding), region) == relation


def test_names():
    expected = {
        "right|opacity": "right opacity",
        "left base|opacity": "left basal opacity",
        "bilateral hilum|opacity": "bilateral hilar opacity",
        "right|elevated diaphragm": "elevated right hemidiaphragm",
        "left|elevated diaphragm": "elevated left hemidiaphragm",
        "bilateral|pleural effusion": "bilateral pleural effusions",
        "left lower lobe|pneumothorax": "pneumothorax in the left lower lobe",
        "right lower lobe|pneumothorax": "pneumothorax in the right lower lobe",
        "right lower lobe|pleural effusion": "right lower lobe pleural effusion",
        "right|blunted costophrenic angle": "blunted right costophrenic angle",
    }
    assert {text: rules().name(label(text)) for text in expected} == expected
    assert rules().label(label("left base|opacity")) == Label("left basal opacity", "opacity", "left", "base")


def test_the_four_labels_of_the_paper_and_their_counterparts():
    names = {rules().name(place) for unit in rules().units for place in unit}
    assert names == {
        "elevated right hemidiaphragm",
        "elevated left hemidiaphragm",
        "bilateral pleural effusions",
        "pneumothorax in the left lower lobe",
        "pneumothorax in the right lower lobe",
        "right lower lobe pleural effusion",
        "left lower lobe pleural effusion",
    }
    assert Combination("opacity", "bilateral", "").mirrored == Combination("opacity", "bilateral", "")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("nipple shadow, ", "niple shadow, ", r"catalogue\.yaml names \['niple shadow'\]"),
        ("[base, lower lobe]", "[basis, lower lobe]", r"catalogue\.yaml names \['basis'\]"),
        ("side: bilateral", "side: both", "must name a side and one of the regions"),
        ("  apex: apical", "  lingula: lingular", r"must be regions of anatomy\.yaml, got \['lingula'\]"),
        ("overlap:", "overlaps:", r"catalogue\.yaml must have"),
    ],
)
def test_a_misspelling_is_an_error(tmp_path, old, new, message):
    text = (FOLDER / "catalogue.yaml").read_text()
    assert old in text
    (tmp_path / "catalogue.yaml").write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=message):
        load_rules(vocabulary(), tmp_path / "catalogue.yaml")
