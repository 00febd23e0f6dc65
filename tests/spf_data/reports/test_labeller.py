import random
import time
from functools import cache

import pytest
from spf_data.findings import Finding
from spf_data.reports import label_mentions, label_report
from spf_data.vocabulary import Vocabulary, load_vocabulary

SENTENCES = (
    "No change in the calcified right hilar lymph node and left 5 th rib nodules, greater, clear of opacity.",
    "Status post removal of a large effusion; the heart is mildly enlarged and the aorta tortuous.",
    "Bilateral lung bases may represent history of resolved infiltrate versus scar with normal lungs.",
)
REPORT = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  History of left pneumothorax, evaluate for pneumonia.

 COMPARISON:  Prior study with a right effusion.

 FINDINGS:
 There is a moderate left pleural effusion.  The heart is
 mildly enlarged. No pneumothorax.

 IMPRESSION:
 1. Left effusion.
 2. No mass.
"""


@cache
def vocabulary() -> Vocabulary:
    return load_vocabulary()


def read(text: str) -> list[Finding]:
    return label_report(text, vocabulary())


def test_findings_come_from_the_sections_that_describe_the_image():
    assert [str(finding) for finding in read(REPORT)] == [
        "finding|yes|pleural effusion|pleura|left|moderate",
        "finding|yes|cardiomegaly|heart||mild",
        "finding|no|pneumothorax|pleura||",
        "finding|no|mass|||",
    ]


def test_span_is_that_of_the_words_in_the_report():
    words = [REPORT[slice(*finding.span)] for finding in read(REPORT)]
    assert words == ["pleural effusion", "enlarged", "pneumothorax", "mass"]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("No pneumothorax.", "negation 'no'; no place"),
        ("Left basilar opacity.", "stated; place before the finding"),
        ("Opacity in the left base.", "stated; place after the finding"),
        ("In the left base there is an opacity.", "stated; place before, in the clause"),
        ("The left effusion has resolved.", "resolved 'has resolved'; place before the finding"),
        ("Pneumonia cannot be excluded.", "uncertain 'cannot be excluded'; no place"),
        ("The heart is enlarged.", "stated; 'enlarged' of a place, place before, in the clause"),
        ("Lungs are not without opacity.", "double negation 'not without'; place before, in the clause"),
    ],
)
def test_finding_says_which_rules_fired(text, rule):
    assert [finding.rule for finding in read(text)] == [rule]


@pytest.mark.parametrize(
    ("text", "severity"),
    [
        ("Mild left effusion.", "mild"),
        ("Small left effusion.", "mild"),
        ("Moderate cardiomegaly.", "moderate"),
        ("Large left effusion.", "severe"),
        ("Left effusion, severe cardiomegaly.", ""),
        ("Heart is moderately enlarged.", "moderate"),
    ],
)
def test_severity_stands_directly_before_the_finding(text, severity):
    assert read(text)[0].severity == severity


def test_a_wrapped_line_is_no_end_of_a_sentence():
    assert [str(finding) for finding in read("There is no\npneumothorax.")] == ["finding|no|pneumothorax|pleura||"]


def test_positive_wins_over_negative_only_in_the_same_place():
    findings = read("No left effusion. Small left effusion. No right effusion.")
    assert [(finding.polarity, finding.laterality) for finding in findings] == [("yes", "left"), ("no", "right")]


def test_mentions_keep_repetitions():
    assert len(label_mentions("Left effusion. Left effusion.", vocabulary())) == 2


@pytest.mark.parametrize(
    "text", ["", "   \n", ".", ";;;", "XXXX", "no", "left", "No.", "1. 2. 3.", "and/or", "İ no effusion"]
)
def test_text_without_sense_is_no_error(text):
    assert all(finding.core == "pleural effusion" for finding in read(text))


def test_any_order_of_words_is_read_and_spans_stay_inside():
    words = [*" ".join(SENTENCES).split(), "XXXX", "___", ",", ";", ".", "(", ")", "/", ":", "-"]
    draw = random.Random(7)
    for _ in range(2000):
        text = " ".join(draw.choices(words, k=draw.randrange(1, 25)))
        for finding in label_mentions(text, vocabulary()):
            start, end = finding.span
            assert 0 <= start < end <= len(text), text
            assert finding.core in vocabulary().findings


def test_a_very_long_sentence_is_read_in_reasonable_time():
    text = "There is opacity in the left base and right upper lobe, " * 100
    started = time.process_time()
    findings = label_mentions(text, vocabulary())
    assert len(findings) == 200
    assert time.process_time() - started < 10
