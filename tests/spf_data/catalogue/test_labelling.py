from collections import Counter

import numpy as np
import pytest
from spf_data.catalogue import Policies
from spf_data.catalogue.labelling import label_rows, label_values
from spf_data.catalogue.source_map import Unread
from spf_data.catalogue.statements import Statements

from .helpers import label, rules, said

R, L, B, RB, LB, LU = "right", "left", "bilateral", "right base", "left base", "left upper lobe"


def _values(statements, complete=True, **policies):
    """{place: 1, 0 or None} of opacity."""
    places = [R, L, B, RB, LB, LU]
    found = label_values(
        [said(text if "|" in text else f"{text}|opacity") for text in statements],
        [label(f"{place}|opacity") for place in places],
        complete,
        Policies(**policies),
        rules(),
    )
    return dict(zip(places, (None if value < 0 else value for value in found), strict=True))


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        # nothing is said: absent
        ([], (0, 0, 0, 0, 0, 0)),
        # a side, wherever there: the other side is absent, the side's regions are not known
        (["left"], (0, 1, 0, 0, None, None)),
        # a region says its side, too
        (["left base"], (0, 1, 0, 0, 1, 0)),
        (["left base+upper lobe"], (0, 1, 0, 0, 1, 1)),
        # bilateral is both sides, and both sides are bilateral
        (["bilateral"], (1, 1, 1, None, None, None)),
        (["bilateral base"], (1, 1, 1, 1, 1, 0)),
        (["right", "left base"], (1, 1, 1, None, 1, 0)),
        # without a side no sided label is known, but elsewhere it is absent
        (["|opacity"], (None, None, None, None, None, None)),
        (["base"], (None, None, None, None, None, 0)),
        (["left base", "|opacity"], (None, 1, None, None, 1, None)),
        # the lower lobe may be the base
        (["left lower lobe"], (0, 1, 0, 0, None, 0)),
        # places that hold the others are none
        (["left lung"], (0, 1, 0, 0, None, None)),
        # a no of a side, of a region, of all
        (["no left"], (0, 0, 0, 0, 0, 0)),
        (["no |opacity"], (0, 0, 0, 0, 0, 0)),
        # yes before uncertain before no
        (["uncertain left", "left"], (0, 1, 0, 0, None, None)),
        (["uncertain left", "no left"], (0, None, 0, 0, None, None)),
        (["uncertain left base"], (0, None, 0, 0, None, 0)),
        (["uncertain |opacity"], (None, None, None, None, None, None)),
    ],
)
def test_what_is_said_becomes_labels(statements, expected):
    assert tuple(_values(statements).values()) == expected


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ([], (None, None, None, None, None, None)),
        (["left base|opacity"], (None, 1, None, None, 1, None)),
        (["no left|opacity"], (None, 0, 0, None, 0, 0)),
        (["no left base|opacity"], (None, None, None, None, 0, None)),
        (["no bilateral|opacity"], (0, 0, 0, 0, 0, 0)),
        (["no |opacity"], (0, 0, 0, 0, 0, 0)),
        (["no base|opacity"], (None, None, None, 0, 0, None)),
        # a yes anywhere: the no without a side is not of all sides
        (["right|opacity", "no |opacity"], (1, None, None, None, None, None)),
        (["right|opacity", "no left|opacity"], (1, 0, 0, None, 0, 0)),
        (["right|opacity", "left|opacity"], (1, 1, 1, None, None, None)),
    ],
)
def test_where_labels_do_not_say_all_silence_is_unknown(statements, expected):
    assert tuple(_values(statements, complete=False).values()) == expected
    assert tuple(_values(statements, complete=True, not_mentioned="unknown").values()) == expected


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("unknown", (None, None, None, None, None, None)),
        ("positive", (None, 1, None, None, 1, None)),
        ("negative", (None, 0, 0, None, 0, None)),
    ],
)
def test_uncertain(policy, expected):
    assert tuple(_values(["uncertain left base|opacity"], complete=False, uncertain=policy).values()) == expected


def test_uncertain_without_a_side():
    statements = ["uncertain |opacity"]
    assert set(_values(statements, uncertain="positive").values()) == {None}
    assert set(_values(statements, complete=False, uncertain="negative").values()) == {0}
    assert _values(["left|opacity", "uncertain |opacity"], uncertain="negative")[L] == 1
    # taken for a yes it takes the meaning from a no without a side
    assert _values(["uncertain left|opacity", "no |opacity"], False, uncertain="positive")[R] is None


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        (["left base|opacity", "|opacity"], (0, 1, 0, 0, 1, 0)),
        (["left base|opacity", "left|opacity"], (0, 1, 0, 0, 1, 0)),
        (["left base|opacity", "base|opacity"], (0, 1, 0, 0, 1, 0)),
        (["left base|opacity", "uncertain |opacity"], (0, 1, 0, 0, 1, 0)),
        # of another region or side it is another one
        (["left base|opacity", "apex|opacity"], (None, 1, None, 0, 1, None)),
        (["left base|opacity", "right|opacity"], (1, 1, 1, None, 1, 0)),
        (["|opacity"], (None, None, None, None, None, None)),
        (["uncertain left base|opacity", "|opacity"], (None, None, None, None, None, None)),
    ],
)
def test_a_finding_without_a_place_explained_by_one_with_a_place(statements, expected):
    assert tuple(_values(statements, unplaced="explained").values()) == expected


def test_where_a_finding_always_is_says_nothing():
    places = [label("left|pleural effusion"), label("left base|pleural effusion")]
    found = label_values([said("left pleura|pleural effusion")], places, True, Policies(), rules())
    assert found == (1, -1)


def test_rows():
    findings = (said("left base|opacity"), said("|opacity"), said("right|nodule"))
    statements = Statements(
        findings,
        images=np.array([0, 2, 2]),
        said=np.array([0, 1, 2]),
        cores=frozenset({"opacity", "nodule"}),
        unread=Unread(),
        levels=Counter({"image": 3}),
    )
    chosen = [label(text) for text in ("right|opacity", "left|opacity", "right|nodule", "right|scar")]
    complete = np.array([True, True, True, False])
    labels = label_rows(statements, complete, chosen, Policies(), rules())
    # Of scars the source never speaks, so its silence says nothing.
    assert labels.tolist() == [[0, 1, 0, -1], [0, 0, 0, -1], [-1, -1, 1, -1], [-1, -1, -1, -1]]
    assert labels.dtype == np.int8
    unknown = label_rows(statements, complete, chosen, Policies(not_mentioned="unknown"), rules())
    assert unknown.tolist() == [[-1, 1, -1, -1], [-1, -1, -1, -1], [-1, -1, 1, -1], [-1, -1, -1, -1]]


@pytest.mark.parametrize("name", ["uncertain", "not_mentioned", "unplaced"])
def test_an_unknown_policy_is_an_error(name):
    with pytest.raises(ValueError, match=f"{name} must be one of .*, got 'maybe'"):
        Policies(**{name: "maybe"})
