import pytest
from spf_data.findings import Finding, study_union


def test_canonical_string_holds_all_but_span_and_rule():
    finding = Finding("finding", "yes", "opacity", ("base", "hilum"), "left", "mild", (3, 10), "stated")
    assert str(finding) == "finding|yes|opacity|base+hilum|left|mild"
    assert str(Finding("disease", "no", "pneumonia")) == "disease|no|pneumonia|||"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "sign"}, "kind must be one of .*got 'sign'"),
        ({"polarity": "maybe"}, "polarity must be one of .*got 'maybe'"),
        ({"laterality": "both"}, "laterality must be one of .*got 'both'"),
        ({"severity": "small"}, "severity must be one of .*got 'small'"),
        ({"core": ""}, "core must not be empty"),
        ({"span": (5, 3)}, "span must be 0 <= start <= end"),
        ({"span": (-1, 3)}, "span must be 0 <= start <= end"),
    ],
)
def test_wrong_values_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Finding(**{"kind": "finding", "polarity": "yes", "core": "opacity", **changes})


def said(polarity: str, side: str, rule: str = "") -> Finding:
    return Finding("finding", polarity, "effusion", (), side, rule=rule)


def test_union_prefers_yes_then_uncertain_then_no():
    for polarities, winner in [("no yes", "yes"), ("yes no", "yes"), ("no uncertain", "uncertain"), ("no no", "no")]:
        (only,) = study_union([said(polarity, "left") for polarity in polarities.split()])
        assert only.polarity == winner


def test_union_keeps_places_apart_and_the_first_of_equals():
    union = study_union([said("no", "right"), said("yes", "left", "first"), said("yes", "left", "second")])
    assert [(one.polarity, one.laterality, one.rule) for one in union] == [
        ("no", "right", ""),
        ("yes", "left", "first"),
    ]
