"""What a sentence names: findings, and the places and sides around them."""

from dataclasses import dataclass, field
from typing import NamedTuple

from spf_data.findings import Laterality
from spf_data.phrases import Mention, Token
from spf_data.vocabulary import Term, Vocabulary


class Location(NamedTuple):
    """One place on one side; several places where one lies in the other ("hilar lymph nodes")."""

    side: Laterality
    places: tuple[str, ...]


@dataclass(frozen=True)
class PlaceGroup:
    """Neighbouring words that say where: "right middle and lower lobes".

    Attributes:
        start: Index of the first token.
        end: Index after the last token.
        locations: The places meant.
    """

    start: int
    end: int
    locations: tuple[Location, ...]


@dataclass
class Sentence:
    """A sentence and what it names.

    Attributes:
        words: Its words in lower case.
        tokens: Its words with their positions in the text.
        targets: Findings, attributes and words for the normal, in order.
        groups: Places, in order.
        severities: Degrees, in order.
        comparisons: Phrases that compare the sides, in order.
        cues: Cue phrases, in order.
    """

    words: list[str]
    tokens: list[Token]
    targets: list[Mention[Term]] = field(default_factory=list)
    groups: list[PlaceGroup] = field(default_factory=list)
    severities: list[Mention[Term]] = field(default_factory=list)
    comparisons: list[Mention[Term]] = field(default_factory=list)
    cues: list[Mention[str]] = field(default_factory=list)


def read_sentence(tokens: list[Token], vocabulary: Vocabulary) -> Sentence:
    """Find what a sentence names; one without findings has no groups and no cues."""
    words = [token.text for token in tokens]
    sentence = Sentence(words, tokens)
    where: list[Mention[Term]] = []
    kinds = {
        "finding": sentence.targets,
        "attribute": sentence.targets,
        "normal": sentence.targets,
        "place": where,
        "side": where,
        "severity": sentence.severities,
        "comparison of sides": sentence.comparisons,
    }
    ignored: set[int] = set()
    for mention in vocabulary.terms.find(words):
        if mention.term.role == "ignored":
            ignored.update(range(mention.start, mention.end))
        else:
            kinds[mention.term.role].append(mention)
    if any(target.term.role != "normal" for target in sentence.targets):
        sentence.cues = vocabulary.cues.find(words)
        sentence.groups = _split_groups(_group(where, ignored, sentence, vocabulary), sentence, vocabulary)
        sentence.targets = [target for target in sentence.targets if _means_something(target, sentence, vocabulary)]
    return sentence


def _means_something(target: Mention[Term], sentence: Sentence, vocabulary: Vocabulary) -> bool:
    """Whether an attribute makes a finding of a place of the sentence, and is not part of the finding that follows."""
    if target.term.role != "attribute":
        return True
    following = next((other for other in sentence.targets if other.start >= target.end), None)
    if following and following.term.role == "finding":
        gap = set(sentence.words[target.end : following.start - 1]) - {"and"} | set(
            sentence.words[following.start - 1 : following.start]
        )
        part = [group for group in sentence.groups if target.end <= group.start < following.start]
        named = {place for group in part for location in group.locations for place in location.places}
        if (
            target.term.name in vocabulary.findings[following.term.name].absorbs
            and vocabulary.words["separates"].isdisjoint(gap)
            and all(vocabulary.allows(following.term.name, place) for place in named)
        ):
            return False
    places = {place for group in sentence.groups for location in group.locations for place in location.places}
    return any((target.term.name, place) in vocabulary.compositions for place in places)


def _group(
    where: list[Mention[Term]], ignored: set[int], sentence: Sentence, vocabulary: Vocabulary
) -> list[list[Mention[Term]]]:
    """Runs of places and sides with nothing between them but words that join places.

    Between two sides a degree may stand: "moderate right and small left effusions".
    """
    joins = vocabulary.words["joins_places"]
    degrees = {index for degree in sentence.severities for index in range(degree.start, degree.end)}
    groups: list[list[Mention[Term]]] = []
    for mention in where:
        last = groups[-1][-1] if groups else mention
        skipped = ignored | degrees if last.term.role == mention.term.role == "side" else ignored
        gap = [sentence.words[index] for index in range(last.end, mention.start) if index not in skipped]
        if groups and all(word in joins or word.isdigit() for word in gap):
            groups[-1].append(mention)
        else:
            groups.append([mention])
    return groups


def _split_groups(groups: list[list[Mention[Term]]], sentence: Sentence, vocabulary: Vocabulary) -> list[PlaceGroup]:
    """Divide "(nodule in the) right upper lobe and left lower lobe (atelectasis)": each finding has its own place."""
    result: list[PlaceGroup] = []
    for mentions in groups:
        cut = _cut(mentions, sentence, vocabulary)
        parts = [mentions[:cut], mentions[cut:]] if cut else [mentions]
        result.extend(PlaceGroup(part[0].start, part[-1].end, _locations(part, vocabulary)) for part in parts)
    return result


def _cut(mentions: list[Mention[Term]], sentence: Sentence, vocabulary: Vocabulary) -> int:
    start, end = mentions[0].start, mentions[-1].end
    separates = vocabulary.words["separates"]
    before = [target for target in sentence.targets if target.end <= start and target.term.role != "normal"]
    after = [target for target in sentence.targets if target.start >= end]
    if not before or not after or not separates.isdisjoint(sentence.words[end : after[0].start]):
        return 0
    if vocabulary.words["prepositions"].isdisjoint(sentence.words[before[-1].end : start]):
        return 0
    for index in range(len(mentions) - 1, 0, -1):
        gap = sentence.words[mentions[index - 1].end : mentions[index].start]
        if {"and", ","} & set(gap) and _is_whole(mentions[:index]) and _is_whole(mentions[index:]):
            return index
    return 0


def _is_whole(mentions: list[Mention[Term]]) -> bool:
    return any(mention.term.places for mention in mentions)


def _locations(mentions: list[Mention[Term]], vocabulary: Vocabulary) -> tuple[Location, ...]:
    """Sides and places of one group: a side holds for the places after it, and before it if none has a side."""
    locations: list[Location] = []
    sides: list[Laterality] = []
    side_is_used = True
    previous_end = mentions[0].start
    for mention in mentions:
        term = mention.term
        nested = previous_end == mention.start and locations
        previous_end = mention.end
        if term.role == "side":
            sides = [term.side] if side_is_used else [*sides, term.side]
            side_is_used = False
        elif nested and side_is_used and not term.side and len(term.places) == 1:
            locations[-1] = Location(locations[-1].side, (*locations[-1].places, *term.places))
        else:
            # a plural means both sides ("lung bases") unless a side stands before it
            yields = term.side == "bilateral" and not side_is_used
            unsided: list[Laterality] = [""]
            here = [term.side] if term.side and not yields else sides or unsided
            locations.extend(Location(side, (place,)) for side in here for place in term.places)
            side_is_used = True
    if not side_is_used:
        locations = _with_trailing_sides(locations, sides)
    return tuple(Location(location.side, vocabulary.most_specific(location.places)) for location in locations)


def _with_trailing_sides(locations: list[Location], sides: list[Laterality]) -> list[Location]:
    """Sides named after the places: "the base on the right"."""
    if locations and all(not location.side for location in locations):
        return [Location(side, location.places) for location in locations for side in sides]
    return [*locations, *(Location(side, ()) for side in sides)]
