import pytest
from spf_data.phrases import Mention, PhraseTree, in_the_plural, tokenize


def words(text: str) -> list[str]:
    return [token.text for token in tokenize(text)]


def test_words_are_in_lower_case_without_hyphens_and_blanks():
    assert words("Right-sided XXXX ___ T-spine, 1.2 cm") == ["right", "sided", "t", "spine", ",", "1.2", "cm"]


def test_positions_are_those_of_the_text():
    text = "No left-sided effusion"
    assert [text[token.start : token.end] for token in tokenize(text, 3)] == ["left", "sided", "effusion"]


def test_a_letter_that_grows_in_lower_case_moves_nothing():
    text = "İ effusion"
    token = tokenize(text)[-1]
    assert text[token.start : token.end] == "effusion"


@pytest.mark.parametrize(
    ("singular", "plural"),
    [("nodule", "nodules"), ("opacity", "opacities"), ("mass", "masses"), ("x ray", "x rays"), ("reflex", "reflexes")],
)
def test_plural(singular, plural):
    assert in_the_plural(singular) == plural


def test_longest_phrase_wins_and_phrases_do_not_overlap():
    tree = PhraseTree[str]()
    for phrase in ("pleural effusion", "effusion", "pleural", "small pleural effusion on"):
        tree.add(phrase, phrase)
    found = tree.find(words("small pleural effusion in the pleural space, effusion"))
    assert [mention.term for mention in found] == ["pleural effusion", "pleural", "effusion"]


def test_one_phrase_may_have_two_meanings():
    tree = PhraseTree[str]()
    tree.add("hydropneumothorax", "effusion")
    tree.add("hydropneumothorax", "pneumothorax")
    tree.add("hydropneumothorax", "effusion")
    assert tree.find(["hydropneumothorax"]) == [Mention("effusion", 0, 1), Mention("pneumothorax", 0, 1)]


def test_phrase_without_words_is_refused():
    with pytest.raises(ValueError, match="'---' of dash has no words"):
        PhraseTree[str]().add("---", "dash")
