import json

import pytest
from spf_data.cxr_zones import LABEL_SET
from spf_data.label_places import PLACES, label_from_name, label_set_of

from tests.spf_data.manifests import make_manifest, places


def _manifest(*names, **places_of):
    return make_manifest(["a.png"], {name: [1] for name in names}, places(**places_of) if places_of else None)


def test_places_are_read_from_the_names():
    assert label_set_of(_manifest(*LABEL_SET.names)) == LABEL_SET


@pytest.mark.parametrize(
    ("name", "finding", "side", "zone"),
    [
        ("Cardiomegaly", "cardiomegaly", "none", ""),
        ("elevated right hemidiaphragm", "elevated hemidiaphragm", "right", ""),
        ("Bilateral pleural effusions", "pleural effusions", "bilateral", ""),
        ("left lower lobe nodule", "lower lobe nodule", "left", ""),
        ("Left lower zone nodule", "nodule", "left", "lower"),
        ("brightness", "brightness", "none", ""),
    ],
)
def test_side_and_zone_are_words_of_the_name(name, finding, side, zone):
    label = label_from_name(name)
    assert (label.name, label.finding, label.side, label.zone) == (name, finding, side, zone)


@pytest.mark.parametrize(("name", "message"), [("left or right", "names the sides"), ("right", "names no finding")])
def test_a_name_that_does_not_say_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        label_from_name(name)


def test_the_metadata_come_before_the_name():
    names = ("right sided aortic arch", "RLL nodule", "LLL nodule")
    sides = {names[0]: ("right aortic arch", "none"), names[1]: ("nodule", "right"), names[2]: ("nodule", "left")}
    label_set = label_set_of(_manifest(*names, **sides))
    assert label_set.names == names
    assert label_set.mirror == (0, 2, 1)


def test_a_label_without_its_counterpart_is_refused_with_advice():
    manifest = _manifest("right nodule", "left nodule", "right sided aortic arch")
    with pytest.raises(ValueError, match=r"'right sided aortic arch' has no counterpart .* Leave it out \(data.labels"):
        label_set_of(manifest)
    assert label_set_of(manifest, ["left nodule", "right nodule"]).mirror == (1, 0)


def test_unknown_labels_are_refused():
    for names in (["effusion"], []):
        with pytest.raises(ValueError, match="labels must be among"):
            label_set_of(_manifest("nodule"), names)


@pytest.mark.parametrize(
    "text", ["{", "[]", json.dumps({"nodule": "right"}), json.dumps({"nodule": {"finding": "x"}}),
             json.dumps({"nodule": {"finding": "x", "side": "top"}}),
             json.dumps({"nodule": {"finding": "x", "side": "none", "color": "red"}})]
)  # fmt: skip
def test_invalid_metadata_are_refused(text):
    with pytest.raises(ValueError, match=f"{PLACES}|side of"):
        label_set_of(make_manifest(["a.png"], {"nodule": [1]}, {PLACES: text}))
