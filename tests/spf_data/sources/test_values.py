import math

import pytest
from spf_data.sources.report import PrepareReport
from spf_data.sources.values import parse_age, parse_fractions, parse_label, parse_sex, side_of, side_of_box


@pytest.mark.parametrize(
    ("text", "years"),
    [("57", 57), ("058Y", 58), ("018M", 1.5), ("36.0", 36), ("0", 0), (" 61 ", 61), ("", None), ("120", 120)],
)
def test_ages_are_read_as_the_tables_write_them(text, years):
    report = PrepareReport()
    assert parse_age(text, report) == years
    assert not report.noticed


def test_days_are_a_part_of_a_year():
    assert parse_age("020D", PrepareReport()) == pytest.approx(20 / 365.25)


# NIH's table holds ages of 148 to 414.
@pytest.mark.parametrize("text", ["414", "148Y", "-3", "nan", "5X"])
def test_impossible_ages_are_unknown_and_counted(text):
    report = PrepareReport()
    assert parse_age(text, report) is None
    assert report.noticed == {"impossible age, now unknown": 1}


@pytest.mark.parametrize(("text", "sex"), [("F", "F"), ("m", "M"), ("Female", "F"), ("O", ""), ("nan", ""), ("", "")])
def test_sexes(text, sex):
    assert parse_sex(text) == sex


@pytest.mark.parametrize(
    ("text", "policy", "value"),
    [
        ("1.0", "unknown", 1),
        ("0", "positive", 0),
        ("", "positive", None),
        ("-1.0", "unknown", None),
        ("-1", "positive", 1),
        ("-1", "negative", 0),
    ],
)
def test_labels_follow_the_policy_for_uncertain_ones(text, policy, value):
    assert parse_label(text, policy) == value


@pytest.mark.parametrize("text", ["2", "0.5", "yes", "nan", "inf"])
def test_other_labels_are_refused(text):
    with pytest.raises(ValueError, match="must be 1, 0, -1 or empty"):
        parse_label(text, "unknown")


@pytest.mark.parametrize(
    ("texts", "side"),
    [
        (["left lower lobe"], "left"),
        (["basal", "right"], "right"),
        (["left", "right"], "bilateral"),
        (["diffuse bilateral", "left"], "bilateral"),
        (["basal"], ""),
        (["upright"], ""),
    ],
)
def test_sides_are_words(texts, side):
    assert side_of(texts) == side


@pytest.mark.parametrize(
    ("x", "w", "side"), [(0.1, 0.3, "right"), (0.6, 0.3, "left"), (0.4, 0.3, ""), (0.1, 0.4, "right")]
)
def test_the_patient_s_right_is_on_the_image_s_left(x, w, side):
    assert side_of_box(x, w) == side


def test_boxes_become_fractions_and_faults_nan():
    assert parse_fractions(("10", "20", "30", "40"), 100, 200) == (0.1, 0.1, 0.3, 0.2)
    assert math.isnan(parse_fractions(("x", "0", "1", "1"), 10, 10)[0])
    assert math.isnan(parse_fractions(("1", "0", "1", "1"), 0, 10)[0])
