"""Words of a text, and the longest known phrases among them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

TermT = TypeVar("TermT")

_TOKEN = re.compile(r"[^\W\d_][^\W_]*|\d+(?:\.\d+)?|[^\s\w]|_+")
# de-identified words, hyphens and apostrophes: a phrase is found across them
_SKIPPED = re.compile(r"x{3,}|_+|[-'\u2019–]")


class Token(NamedTuple):
    """One word, number or mark.

    Attributes:
        text: In lower case.
        start: Where it begins in the text.
        end: Where it ends in the text.
    """

    text: str
    start: int
    end: int


def tokenize(text: str, start: int = 0, end: int | None = None) -> list[Token]:
    """The words of `text[start:end]`, without hyphens, apostrophes and de-identified words ("XXXX", "___")."""
    found = []
    for match in _TOKEN.finditer(text, start, len(text) if end is None else end):
        word = match.group().lower()
        if not _SKIPPED.fullmatch(word):
            found.append(Token(word, match.start(), match.end()))
    return found


def in_the_plural(phrase: str) -> str:
    """A phrase with its last word in the regular English plural."""
    if phrase.endswith("y") and phrase[-2:-1] not in "aeiou":
        return f"{phrase[:-1]}ies"
    if phrase.endswith(("s", "x", "sh", "ch")):
        return f"{phrase}es"
    return f"{phrase}s"


@dataclass(frozen=True)
class Mention(Generic[TermT]):
    """A phrase found in a list of tokens.

    Attributes:
        term: What the phrase stands for.
        start: Index of its first token.
        end: Index after its last token.
    """

    term: TermT
    start: int
    end: int


@dataclass
class _Node(Generic[TermT]):
    children: dict[str, "_Node[TermT]"] = field(default_factory=dict)
    terms: list[TermT] = field(default_factory=list)


class PhraseTree(Generic[TermT]):
    """Phrases as a tree of words, so that a text is searched for all of them in one pass."""

    def __init__(self) -> None:
        self._root: _Node[TermT] = _Node()

    def add(self, phrase: str, term: TermT) -> None:
        """Add a phrase.

        Raises:
            ValueError: If the phrase has no words.
        """
        words = [token.text for token in tokenize(phrase)]
        if not words:
            raise ValueError(f"phrase {phrase!r} of {term} has no words")
        node = self._root
        for word in words:
            node = node.children.setdefault(word, _Node())
        if term not in node.terms:
            node.terms.append(term)

    def find(self, words: list[str]) -> list[Mention[TermT]]:
        """The longest phrases, from left to right; they do not overlap, but one phrase may stand for several terms."""
        found: list[Mention[TermT]] = []
        position = 0
        while position < len(words):
            end, terms = self._longest(words, position)
            found.extend(Mention(term, position, end) for term in terms)
            position = end
        return found

    def _longest(self, words: list[str], start: int) -> tuple[int, Iterable[TermT]]:
        best: tuple[int, Iterable[TermT]] = start + 1, ()
        node: _Node[TermT] | None = self._root
        for position in range(start, len(words)):
            node = node.children.get(words[position]) if node else None
            if node is None:
                break
            if node.terms:
                best = position + 1, node.terms
        return best
