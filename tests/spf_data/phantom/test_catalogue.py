import numpy as np
from spf_data.phantom.catalogue import FINDINGS, finding_index, label_set
from spf_data.phantom.scene import DRAW


def test_there_are_57_labels_with_the_papers_four_named_ones():
    labels = label_set(translated=False)
    assert len(labels) == 57
    assert {
        "elevated right hemidiaphragm",
        "bilateral pleural effusions",
        "pneumothorax in the left lower lobe",
        "right lower lobe pleural effusion",
    } <= set(labels.names)


def test_side_and_zone_agree_with_the_name():
    for label in label_set(translated=False).labels:
        for side in ("right", "left", "bilateral"):
            assert (side in label.name) == (label.side == side)
        for zone in ("middle", "lower"):
            assert zone not in label.name or label.zone == zone


def test_mirror_is_an_involution_that_swaps_the_sides():
    labels = label_set(translated=False)
    assert np.array_equal(np.array(labels.mirror)[list(labels.mirror)], np.arange(57))
    opposite = {"right": "left", "left": "right", "bilateral": "bilateral", "none": "none"}
    for label, partner in zip(labels.labels, labels.mirror, strict=True):
        assert labels.labels[partner].side == opposite[label.side]
        assert (labels.labels[partner].finding, labels.labels[partner].zone) == (label.finding, label.zone)


def test_the_translated_anatomy_drops_the_labels_without_a_side():
    dropped = set(label_set(translated=False).names) - set(label_set(translated=True).names)
    assert dropped == {"enlarged cardiac silhouette", "widened mediastinum"}


def test_every_finding_can_be_drawn_and_found():
    shapes = {"enlarged cardiac silhouette", "widened mediastinum"}
    assert {finding.name for finding in FINDINGS} == set(DRAW) | shapes
    assert [finding_index(finding.name) for finding in FINDINGS] == list(range(len(FINDINGS)))
