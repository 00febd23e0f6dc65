import pytest
from spf_data.labels import Label, LabelSet

RIGHT = Label("right nodule", "nodule", "right")
LEFT = Label("left nodule", "nodule", "left")
BOTH = Label("bilateral nodules", "nodule", "bilateral")
HEART = Label("enlarged cardiac silhouette", "enlarged cardiac silhouette", "none")
RIGHT_UPPER = Label("right upper zone nodule", "nodule", "right", "upper")


def test_mirror_swaps_the_sides_and_keeps_the_rest():
    labels = LabelSet((BOTH, RIGHT, HEART, LEFT))
    assert labels.mirror == (0, 3, 2, 1)


def test_mirror_keeps_the_zone():
    labels = LabelSet((RIGHT_UPPER, RIGHT, LEFT, Label("left upper zone nodule", "nodule", "left", "upper")))
    assert labels.mirror == (3, 2, 1, 0)


def test_names_length_and_index_follow_the_order():
    labels = LabelSet((RIGHT, LEFT))
    assert labels.names == ("right nodule", "left nodule")
    assert len(labels) == 2
    assert labels.index("left nodule") == 1


def test_unknown_name_is_refused():
    with pytest.raises(ValueError, match="'right mass' is not one of the 2 labels"):
        LabelSet((RIGHT, LEFT)).index("right mass")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ((RIGHT, LEFT, RIGHT), "'right nodule' occurs twice"),
        ((RIGHT, LEFT, Label("nodule on the right", "nodule", "right")), "place .* occurs twice"),
        ((RIGHT,), "'right nodule' has no counterpart"),
        ((RIGHT_UPPER, LEFT), "'right upper zone nodule' has no counterpart"),
    ],
)
def test_label_sets_without_a_mirror_or_with_duplicates_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        LabelSet(labels)


@pytest.mark.parametrize(("name", "finding", "side"), [("", "nodule", "left"), ("a", "", "left"), ("a", "b", "middle")])
def test_invalid_labels_are_refused(name, finding, side):
    with pytest.raises(ValueError, match=r"must (not be empty|be one of)"):
        Label(name, finding, side)
