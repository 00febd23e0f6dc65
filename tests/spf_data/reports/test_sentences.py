import pytest
from spf_data.reports.sentences import split_sentences


def split(text: str) -> list[str]:
    return [" ".join(token.text for token in tokens) for tokens in split_sentences(text, 0, len(text))]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two.", ["one", "two"]),
        ("One; two", ["one", "two"]),
        ("A 1.2 cm nodule. Clear.", ["a 1.2 cm nodule", "clear"]),
        ("1. One. 2. Two.", ["one", "two"]),
        ("One\ntwo.", ["one two"]),
        ("One\n\ntwo", ["one", "two"]),
        ("One\n 2. Two", ["one", "two"]),
        ("Scar vs. nodule.", ["scar vs . nodule"]),
        ("One..  Two?", ["one", "two"]),
        ("One.Two", ["one", "two"]),
        ("", []),
        ("...", []),
    ],
)
def test_sentences(text, sentences):
    assert split(text) == sentences


def test_positions_are_those_of_the_text():
    text = "skip One. Two."
    tokens = [token for sentence in split_sentences(text, 5, len(text)) for token in sentence if token.text != "."]
    assert [text[token.start : token.end] for token in tokens] == ["One", "Two"]
