"""Whether a finding is there: negation, doubt, what is gone, and what is named without being said of the image."""

from typing import NamedTuple

from spf_data.findings import Polarity
from spf_data.phrases import Mention
from spf_data.reports.concepts import Sentence
from spf_data.vocabulary import Term, Vocabulary

_SEPARATORS = frozenset({",", "and", "("})
_FORWARD = frozenset(
    {
        "negation_before",
        "normal_before",
        "resolved_before",
        "uncertain_before",
        "not_said_before",
        "status_before",
        "double_negation",
    }
)
_BACK = frozenset({"negation_after", "resolved_after", "uncertain_after", "not_said_after"})


class Judgement(NamedTuple):
    """Polarity of a finding, None if nothing is said of it, and the rule that says so."""

    polarity: Polarity | None
    rule: str


def judge(sentence: Sentence, target: Mention[Term], vocabulary: Vocabulary) -> Judgement:
    """Polarity of one finding of a sentence.

    A cue reaches from its end to the end of its clause, one of the lists named `..._after` back to its beginning. Of
    two that reach a finding the nearest decides, unless they stand in one phrase: "no findings concerning for" is a no.
    """
    before = [cue for cue in sentence.cues if cue.end <= target.start and _reaches(sentence, cue, target, vocabulary)]
    after = [
        cue for cue in sentence.cues if cue.start >= target.end and _reaches_back(sentence, cue, target, vocabulary)
    ]
    unsaid = [cue for cue in (*before, *after) if cue.term in _unsaid_cues(target, vocabulary)]
    if unsaid:
        return Judgement(None, _quote(sentence, unsaid[-1], "not said of the image"))
    for cue in after:
        if cue.term in ("negation_after", "resolved_after"):
            return Judgement("no", _quote(sentence, cue, "negation" if cue.term == "negation_after" else "resolved"))
    for cue in after:
        if cue.term == "uncertain_after":
            return Judgement("uncertain", _quote(sentence, cue, "uncertain"))
    before = [cue for cue in before if cue.term != "status_before"]
    if not before:
        return Judgement("yes", "stated")
    return _from_before(sentence, before)


def _unsaid_cues(target: Mention[Term], vocabulary: Vocabulary) -> frozenset[str]:
    finding = vocabulary.findings.get(target.term.name)
    is_procedure = finding is not None and finding.procedure
    return frozenset({"not_said_before", "not_said_after"} | (set() if is_procedure else {"status_before"}))


def _from_before(sentence: Sentence, before: list[Mention[str]]) -> Judgement:
    nearest = before[-1]
    for cue in reversed(before):
        if not _SEPARATORS.isdisjoint(sentence.words[cue.end : nearest.start]):
            break
        if cue.term == "double_negation":
            return Judgement("yes", _quote(sentence, cue, "double negation"))
        if cue.term in ("negation_before", "normal_before", "resolved_before"):
            nearest = cue
            break
    meanings: dict[str, tuple[Polarity, str]] = {
        "negation_before": ("no", "negation"),
        "normal_before": ("no", "normal"),
        "resolved_before": ("no", "resolved"),
        "uncertain_before": ("uncertain", "uncertain"),
        "double_negation": ("yes", "double negation"),
    }
    polarity, name = meanings[nearest.term]
    return Judgement(polarity, _quote(sentence, nearest, name))


def _quote(sentence: Sentence, cue: Mention[str], name: str) -> str:
    return f"{name} '{' '.join(sentence.words[cue.start : cue.end])}'"


def _reaches(sentence: Sentence, cue: Mention[str], target: Mention[Term], vocabulary: Vocabulary) -> bool:
    if cue.term not in _FORWARD or _clause_ends(sentence, cue.end, target.start):
        return False
    gap = sentence.words[cue.end : target.start]
    if cue.term == "resolved_before" and "," in gap:
        return False
    if cue.term == "normal_before":
        return vocabulary.words["separates"].isdisjoint(gap)
    return not any(
        word in _SEPARATORS and _starts_statement(sentence, cue.end + index + 1, target, vocabulary)
        for index, word in enumerate(gap)
    )


def _starts_statement(sentence: Sentence, position: int, target: Mention[Term], vocabulary: Vocabulary) -> bool:
    """Whether a new statement begins here, after a comma or "and".

    It does if the one before is finished, a verb comes before the next finding, or what follows cannot be negated.
    """
    if sentence.words[position - 2] in vocabulary.words["ends_statement"]:
        return True
    if position < len(sentence.words) and sentence.words[position] in vocabulary.words["affirms"]:
        return True
    next_finding = min(other.start for other in sentence.targets if other.start >= position or other is target)
    return not vocabulary.words["starts_statement"].isdisjoint(sentence.words[position:next_finding])


def _reaches_back(sentence: Sentence, cue: Mention[str], target: Mention[Term], vocabulary: Vocabulary) -> bool:
    if cue.term not in _BACK or _clause_ends(sentence, target.end, cue.start):
        return False
    verbs = vocabulary.words["starts_statement"]
    gap = sentence.words[target.end : cue.start]
    if sentence.words[cue.start] in ("versus", "vs") and any(
        target.end <= other.start < cue.start for other in sentence.targets
    ):
        return False
    # back over a comma only through a list: "effusion, nodule and mass are not seen"
    if "," in gap and not {"and", "or"} & set(gap):
        return False
    seen = [index for index, word in enumerate(gap) if word in verbs]
    return not seen or not any(
        other.start >= target.end + seen[0] and other.end <= cue.start for other in sentence.targets
    )


def _clause_ends(sentence: Sentence, start: int, end: int) -> bool:
    return any(cue.term == "clause_end" and start <= cue.start < end for cue in sentence.cues)
