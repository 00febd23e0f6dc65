import pytest
from spf_data.catalogue import SelectionRule
from spf_data.catalogue.counting import Count
from spf_data.catalogue.selection import CHOSEN, select_labels
from spf_data.labels import LabelSet

from .helpers import label, rules

ALWAYS = 7


def _select(counts, labels=57, minimum=10):
    counts = {label(text): Count(count, count, count) for text, count in counts.items()}
    selection = select_labels(counts, rules(), SelectionRule(labels, minimum, minimum))
    always = {place for unit in rules().units for place in unit}
    LabelSet(tuple(rules().label(place) for place in selection.chosen))
    return [place for place in selection.chosen if place not in always], selection


def test_a_pair_is_chosen_by_its_rarer_side_and_bilateral_alone():
    counts = {"right|opacity": 90, "left|opacity": 20, "bilateral|nodule": 50, "right|scar": 30, "left|scar": 40}
    chosen, _ = _select(counts)
    assert chosen == [
        label(t) for t in ("bilateral|nodule", "right|scar", "left|scar", "right|opacity", "left|opacity")
    ]
    assert _select(counts, ALWAYS + 3)[0] == chosen[:3]


def test_the_last_place_goes_to_the_next_bilateral_label():
    counts = {"bilateral|nodule": 50, "right|scar": 40, "left|scar": 40, "bilateral|scar": 20}
    chosen, selection = _select(counts, ALWAYS + 2)
    assert chosen == [label("bilateral|nodule"), label("bilateral|scar")]
    assert selection.reasons[label("left|scar")] == "rarer than those chosen"
    assert selection.reasons[label("bilateral|scar")] == CHOSEN


def test_the_named_labels_are_in_however_rare():
    chosen, selection = _select({"right lower lobe|pleural effusion": 1}, ALWAYS)
    assert chosen == []
    assert {rules().name(place) for place in selection.chosen} >= {
        "elevated right hemidiaphragm",
        "bilateral pleural effusions",
        "pneumothorax in the left lower lobe",
        "right lower lobe pleural effusion",
    }
    assert len(selection.chosen) == ALWAYS
    assert selection.reasons == {label("right lower lobe|pleural effusion"): CHOSEN}
    with pytest.raises(ValueError, match="labels must be at least 7, which are in every set, got 6"):
        _select({}, 6)


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ({"left|catheter": 90, "right|catheter": 90}, "device"),
        ({"left|scoliosis": 90, "right|scoliosis": 90}, "bones and joints"),
        ({"|opacity": 90}, "no side"),
        ({"left mediastinum|mass": 90, "right mediastinum|mass": 90}, "not a region of labels"),
        ({"left hilum|pleural effusion": 90, "right hilum|pleural effusion": 90}, "not a region of labels"),
        ({"left|opacity": 9, "right|opacity": 90}, "too rare"),
        ({"right|opacity": 90}, "too rare on the other side"),
    ],
)
def test_why_not(counts, reason):
    chosen, selection = _select(counts)
    assert chosen == []
    assert selection.reasons[label(next(iter(counts)))] == reason


def test_a_side_that_is_nearly_always_one_region_gives_way_to_it():
    counts = {"right|fracture": 100, "left|fracture": 100, "right rib|fracture": 80, "left rib|fracture": 80}
    chosen, selection = _select(counts)
    assert chosen == [label("right rib|fracture"), label("left rib|fracture")]
    assert selection.reasons[label("left|fracture")] == "nearly always rib"
    assert len(_select(counts | {"left rib|fracture": 79})[0]) == 4


def test_patients_count_too():
    counts = {label("bilateral|scar"): Count(50, 50, 9)}
    assert select_labels(counts, rules(), SelectionRule(57, 10, 10)).reasons == {label("bilateral|scar"): "too rare"}
    assert select_labels(counts, rules(), SelectionRule(57, 10, 9)).reasons == {label("bilateral|scar"): CHOSEN}


@pytest.mark.parametrize("name", ["labels", "minimum_images", "minimum_patients"])
def test_numbers_are_positive(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        SelectionRule(**{name: 0})
