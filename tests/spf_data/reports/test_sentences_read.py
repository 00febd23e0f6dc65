"""The labeller on hand-written sentences (`sentences.yaml`), as they are and with the sides exchanged."""

import re
from functools import cache
from pathlib import Path

import pytest
import yaml
from spf_data.findings import Finding
from spf_data.reports import label_mentions
from spf_data.vocabulary import Vocabulary, load_vocabulary

GROUPS: dict[str, dict[str, list[str]]] = yaml.safe_load(Path(__file__).with_name("sentences.yaml").read_text())
SENTENCES = {sentence: expected for group in GROUPS.values() for sentence, expected in group.items()}
MIRRORED = {"left": "right", "right": "left"}
# these words are on one side of everybody
ONE_SIDED = re.compile("lingula|dextro|levo", re.IGNORECASE)


@cache
def vocabulary() -> Vocabulary:
    return load_vocabulary()


def written(finding: Finding) -> str:
    return f"{finding.polarity} | {finding.core} | {'+'.join(finding.anatomy)} | {finding.laterality}".rstrip()


def exchange_sides(text: str) -> str:
    def mirrored(match: re.Match[str]) -> str:
        word = MIRRORED[match.group().lower()]
        return word.capitalize() if match.group()[0].isupper() else word

    return re.sub("left|right", mirrored, text, flags=re.IGNORECASE)


def test_there_are_enough_sentences():
    assert len(SENTENCES) >= 150


@pytest.mark.parametrize("sentence", SENTENCES)
def test_sentence(sentence):
    assert [written(finding) for finding in label_mentions(sentence, vocabulary())] == SENTENCES[sentence]


def test_exchanging_left_and_right_exchanges_the_sides_and_nothing_else():
    checked = 0
    for sentence, expected in SENTENCES.items():
        if ONE_SIDED.search(sentence):
            continue
        found = [written(finding) for finding in label_mentions(exchange_sides(sentence), vocabulary())]
        assert found == [exchange_sides(finding) for finding in expected], sentence
        checked += 1
    assert checked > 200


def test_capitals_change_nothing():
    for sentence, expected in SENTENCES.items():
        found = [written(finding) for finding in label_mentions(sentence.upper(), vocabulary())]
        # "HEART:" in capitals is a heading
        if ":" not in sentence:
            assert found == expected, sentence


def test_neighbouring_sentences_do_not_touch_each_other():
    for sentence, expected in SENTENCES.items():
        text = f"No mass. {sentence} The trachea is midline."
        found = [written(finding) for finding in label_mentions(text, vocabulary())]
        assert found == ["no | mass |  |", *expected], sentence
