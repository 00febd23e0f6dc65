"""Sentences of a section. A semicolon ends one: what stands after it is a statement of its own."""

import re

from spf_data.phrases import Token, tokenize

# not within a number; a list's "1." is no sentence; one line break is only a wrapped line
_END = re.compile(r"[.?!]+(?=\s|$|[A-Z])|;|\n\s*\n|\n\s*(?=\d+[.)]\s|[-*]\s)")
_NUMBER = re.compile(r"\s*\d+\s*[.)]\s*")
_ABBREVIATION = re.compile(r"\b(?:vs|dr|approx|e\.g|i\.e|cf)$", re.IGNORECASE)


def split_sentences(text: str, start: int, end: int) -> list[list[Token]]:
    """The sentences of `text[start:end]` as lists of tokens, whose positions are those in `text`; none is empty."""
    sentences = []
    while start < end:
        numbered = _NUMBER.match(text, start, end)
        begin = numbered.end() if numbered else start
        stop, start = _next_end(text, begin, end)
        tokens = tokenize(text, begin, stop)
        if tokens:
            sentences.append(tokens)
    return sentences


def _next_end(text: str, begin: int, end: int) -> tuple[int, int]:
    for match in _END.finditer(text, begin, end):
        if match.group() != "." or not _ABBREVIATION.search(text, begin, match.start()):
            return match.start(), match.end()
    return end, end
