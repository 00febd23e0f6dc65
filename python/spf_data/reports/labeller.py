"""From a report's text to findings: sections, sentences, concepts, context, places, union."""

from collections.abc import Iterator

from spf_data.findings import Finding, Laterality, Severity, study_union
from spf_data.phrases import Mention
from spf_data.reports.attachment import Placement, allowed_locations, place_targets
from spf_data.reports.concepts import Location, Sentence, read_sentence
from spf_data.reports.context import judge
from spf_data.reports.sections import find_sections
from spf_data.reports.sentences import split_sentences
from spf_data.vocabulary import Term, Vocabulary


def label_report(text: str, vocabulary: Vocabulary) -> list[Finding]:
    """What a report says: its mentions joined, one finding for each core, anatomy and side.

    Args:
        text: The report, with or without headings. Sections that do not describe the image (indication, history,
            comparison, technique) are not read.
        vocabulary: The words known.

    Returns:
        The findings in the order in which they are first said; each has its span in `text` and the rules that fired.
    """
    return study_union(label_mentions(text, vocabulary))


def label_mentions(text: str, vocabulary: Vocabulary) -> list[Finding]:
    """Every statement of a report, repeated and contradicting ones included, in order; as `label_report` else."""
    return [
        finding
        for section in find_sections(text)
        if section.describes_image
        for tokens in split_sentences(text, section.start, section.end)
        for finding in _label_sentence(read_sentence(tokens, vocabulary), vocabulary)
    ]


def _label_sentence(sentence: Sentence, vocabulary: Vocabulary) -> Iterator[Finding]:
    if all(target.term.role == "normal" for target in sentence.targets):
        return
    judgements = [judge(sentence, target, vocabulary) for target in sentence.targets]
    placements = place_targets(sentence, [judgement.polarity for judgement in judgements], vocabulary)
    for target, (polarity, context_rule), placement in zip(sentence.targets, judgements, placements, strict=True):
        if target.term.role == "normal" or polarity is None:
            continue
        for core, location, place_rule in _resolve(sentence, target, placement, vocabulary):
            term = vocabulary.findings[core]
            side = _compared(sentence, target, vocabulary) or location.side or target.term.side
            yield Finding(
                kind=term.kind,
                polarity=polarity,
                core=core,
                anatomy=vocabulary.located(core, location.places),
                laterality=side if term.sided else "",
                severity=_severity(sentence, target, vocabulary),
                span=(sentence.tokens[target.start].start, sentence.tokens[target.end - 1].end),
                rule=f"{context_rule}; {place_rule}",
            )


def _resolve(
    sentence: Sentence, target: Mention[Term], placement: Placement, vocabulary: Vocabulary
) -> list[tuple[str, Location, str]]:
    """The core findings that a target stands for, each with a place."""
    if target.term.role == "attribute":
        return _compose(sentence, target, placement, vocabulary)
    locations = dict.fromkeys(placement.locations) or [Location("", ())]
    return [(target.term.name, location, placement.rule) for location in locations]


def _compose(
    sentence: Sentence, target: Mention[Term], placement: Placement, vocabulary: Vocabulary
) -> list[tuple[str, Location, str]]:
    """An attribute and the places it makes a finding of: those attached to it, else the nearest in the sentence."""
    candidates = [(placement.locations, placement.rule)]
    nearest = sorted(sentence.groups, key=lambda group: max(group.start - target.end, target.start - group.end))
    candidates.extend((allowed_locations(group, target, vocabulary), "nearest place") for group in nearest)
    for locations, rule in candidates:
        composed = {
            (
                vocabulary.compositions[target.term.name, place],
                location,
                f"'{target.term.name}' of a place, {rule}",
            ): None
            for location in locations
            for place in location.places
            if (target.term.name, place) in vocabulary.compositions
        }
        if composed:
            return list(composed)
    return []


def _compared(sentence: Sentence, target: Mention[Term], vocabulary: Vocabulary) -> Laterality:
    """Bilateral, if the sides are compared directly before this finding, or after it and before the next one."""
    for comparison in sentence.comparisons:
        gap = sentence.words[comparison.end : target.start]
        if comparison.end <= target.start and vocabulary.words["separates"].isdisjoint(gap):
            return "bilateral"
    later = [other.start for other in sentence.targets if other.start >= target.end]
    end = later[0] if later else len(sentence.words)
    if any(target.end <= comparison.start < end for comparison in sentence.comparisons):
        return "bilateral"
    return ""


def _severity(sentence: Sentence, target: Mention[Term], vocabulary: Vocabulary) -> Severity:
    """The degree directly before the finding."""
    for mention in reversed(sentence.severities):
        if mention.end <= target.start:
            gap = sentence.words[mention.end : target.start]
            near = vocabulary.words["separates"].isdisjoint(gap)
            between = any(mention.end <= other.start < target.start for other in sentence.targets)
            return _SEVERITIES[mention.term.name] if near and not between else ""
    return ""


_SEVERITIES: dict[str, Severity] = {"mild": "mild", "moderate": "moderate", "severe": "severe"}
