"""Which places and sides belong to which finding of a sentence."""

from typing import NamedTuple

from spf_data.findings import Polarity
from spf_data.phrases import Mention
from spf_data.reports.concepts import Location, PlaceGroup, Sentence
from spf_data.vocabulary import Term, Vocabulary

_LIST = frozenset({",", "and", "or", "/", "versus", "representing", "consistent", "compatible"})
_NOT_A_LIST = frozenset({"with", "is", "are", "no"})
_MEANING = frozenset({"consistent", "compatible"})
_APART = frozenset({",", "and", "with", "or"})
_VAGUE: tuple[tuple[str, ...], ...] = ((), ("lung",), ("chest",))


class Placement(NamedTuple):
    """Where a finding is, and the rule that says so."""

    locations: tuple[Location, ...]
    rule: str


def place_targets(sentence: Sentence, polarities: list[Polarity | None], vocabulary: Vocabulary) -> list[Placement]:
    """The places of each target of a sentence, in order; only those that the vocabulary allows.

    In this order: directly before the finding ("left basilar atelectasis") and after it ("atelectasis in the left
    base"), after the list it is in, before it in the clause ("the left base shows"), that of the finding before it
    ("opacity in the left base, atelectasis or scar"), later in the clause. What is there does not lend its place to
    what is not ("left effusion, pneumothorax not seen"), nor the other way round.
    """
    attachment = _Attachment(sentence, polarities, vocabulary)
    placements: list[Placement] = []
    for index in range(len(sentence.targets)):
        placements.append(attachment.place(index, placements))
    return placements


def allowed_locations(group: PlaceGroup, target: Mention[Term], vocabulary: Vocabulary) -> tuple[Location, ...]:
    """The locations of a group that a finding may have; all of them for a word for the normal."""
    role, name = target.term.role, target.term.name
    if role == "normal":
        return group.locations
    kept = []
    for location in group.locations:
        places = location.places
        if role == "attribute":
            places = tuple(place for place in places if (name, place) in vocabulary.compositions)
        else:
            places = tuple(place for place in places if vocabulary.allows(name, place))
        if places or not location.places:
            # an attribute of the hilum takes "hilar lymph nodes" whole
            kept.append(Location(location.side, location.places if role == "attribute" else places))
    return tuple(kept)


class _Attachment:
    def __init__(self, sentence: Sentence, polarities: list[Polarity | None], vocabulary: Vocabulary) -> None:
        self.sentence = sentence
        self.polarities = polarities
        self.words = sentence.words
        self.vocabulary = vocabulary
        self.next_target = {group.start: self._directly_before(group) for group in sentence.groups}

    def place(self, index: int, earlier: list[Placement]) -> Placement:
        target = self.sentence.targets[index]
        before = self._allowed(self._before(index), target)
        after = self._allowed(self._after(index), target)
        locations = _with_known_sides(_combine(before, after), earlier)
        names = [name for name, found in (("before", before), ("after", after)) if found]
        nearby = Placement(locations, f"place {' and '.join(names)} the finding")
        if target.term.role == "normal" or any(one.side or one.places not in _VAGUE for one in locations):
            return self._with_side_of_list(index, nearby)
        further = self._from_further_away(index, earlier)
        return further if further.locations or not locations else nearby

    def _with_side_of_list(self, index: int, nearby: Placement) -> Placement:
        """A side named once for a list: "old rib fractures and pleural thickening on the right"."""
        if any(location.side for location in nearby.locations):
            return nearby
        listed = self._allowed(self._after_list(index), self.sentence.targets[index])
        if not listed or any(location.places for location in listed):
            return nearby
        return Placement(_combine(nearby.locations, listed), f"{nearby.rule}, side after the list")

    def _from_further_away(self, index: int, earlier: list[Placement]) -> Placement:
        target = self.sentence.targets[index]
        term = self.vocabulary.findings.get(target.term.name)
        listed = self._allowed(self._after_list(index), target)
        if listed:
            return Placement(listed, "place after the list")
        if term and not term.inherits:
            return Placement((), "no place")
        for group in self._earlier(index):
            found = self._allowed([group], target)
            if found:
                return Placement(found, "place before, in the clause")
        if self._continues(index):
            lent = PlaceGroup(target.start, target.end, earlier[-1].locations)
            found = self._allowed([lent], target)
            if found:
                return Placement(found, "place of the finding before")
        late = self._allowed(self._late(index), target)
        return Placement(late, "place later in the clause" if late else "no place")

    def _allowed(self, groups: list[PlaceGroup], target: Mention[Term]) -> tuple[Location, ...]:
        found: tuple[Location, ...] = ()
        for group in groups:
            found = _combine(found, allowed_locations(group, target, self.vocabulary))
        return found

    def _directly_before(self, group: PlaceGroup) -> int:
        """Start of the finding that a place stands directly before, -1 if there is none."""
        following = next((target.start for target in self.sentence.targets if target.start >= group.end), -1)
        gap = self.words[group.end : max(following, group.end)]
        return following if self.vocabulary.words["separates"].isdisjoint(gap) else -1

    def _before(self, index: int) -> list[PlaceGroup]:
        start = self.sentence.targets[index].start
        return [group for group in self.sentence.groups if self.next_target[group.start] == start]

    def _is_subject(self, group: PlaceGroup) -> bool:
        following = [target for target in self.sentence.targets if target.start >= group.end]
        next_word = self.words[group.end : group.end + 1]
        return bool(following) and not self.vocabulary.words["verbs"].isdisjoint(next_word)

    def _between(self, index: int) -> list[PlaceGroup]:
        """The places between a finding and the next one."""
        targets = self.sentence.targets
        later = [target.start for target in targets[index + 1 :] if target.start > targets[index].start]
        end = later[0] if later else len(self.words)
        return [group for group in self.sentence.groups if targets[index].end <= group.start < end]

    def _after(self, index: int) -> list[PlaceGroup]:
        """The places after a finding, up to the first with a side and before any that is the next finding's."""
        target = self.sentence.targets[index]
        found: list[PlaceGroup] = []
        for group in self._between(index):
            gap = self.words[target.end : group.start]
            if not self.vocabulary.words["contrasts"].isdisjoint(gap):
                break
            taken = self.next_target[group.start] >= 0 or self._is_subject(group)
            by_preposition = not self.vocabulary.words["locating"].isdisjoint(gap[-2:])
            if not _APART.isdisjoint(gap) or (taken and not by_preposition):
                break
            if self._allowed([group], target):
                found.append(group)
            if any(location.side for location in self._allowed(found, target)):
                break
        return found

    def _after_list(self, index: int) -> list[PlaceGroup]:
        """The place after the next findings of a list: "opacities and scarring in the left base"."""
        targets = self.sentence.targets
        for other in range(index + 1, len(targets)):
            gap = self.words[targets[other - 1].end : targets[other].start]
            goes_on = _NOT_A_LIST.isdisjoint(gap) or not _MEANING.isdisjoint(gap)
            if targets[other].term.role == "normal" or _LIST.isdisjoint(gap) or not goes_on:
                break
            if any(targets[other - 1].end <= group.start < targets[other].start for group in self.sentence.groups):
                break
            after = self._after(other)
            if after:
                return after
        return []

    def _earlier(self, index: int) -> list[PlaceGroup]:
        """The places before a finding that no other finding stands between, nearest first."""
        target = self.sentence.targets[index]
        start = max((other.end for other in self.sentence.targets if other.end <= target.start), default=0)
        groups = [group for group in self.sentence.groups if start <= group.start and group.end <= target.start]
        if self.polarities[index] == "no":
            # "clear lungs, no effusion"
            groups = [group for group in groups if "," not in self.words[group.end : target.start]]
        return groups[::-1]

    def _continues(self, index: int) -> bool:
        """Whether the finding before may lend its place: not normal, of this clause, both there or both not."""
        if index == 0 or (self.polarities[index - 1] == "no") != (self.polarities[index] == "no"):
            return False
        targets = self.sentence.targets
        gap = self.words[targets[index - 1].end : targets[index].start]
        return targets[index - 1].term.role != "normal" and self.vocabulary.words["contrasts"].isdisjoint(gap)

    def _late(self, index: int) -> list[PlaceGroup]:
        free = [group for group in self._between(index) if self.next_target[group.start] < 0]
        return [group for group in free[:1] if not self._is_subject(group)]


def _combine(one: tuple[Location, ...], other: tuple[Location, ...]) -> tuple[Location, ...]:
    """Two groups of places as one: the sides of either hold for the places of the other that have none."""
    if not any(location.places for location in (*one, *other)):
        return (*one, *other)
    return (*_with_sides(one, other), *_with_sides(other, one))


def _with_sides(locations: tuple[Location, ...], other: tuple[Location, ...]) -> tuple[Location, ...]:
    """The places of `locations`; those without a side take the sides named without a place, or the other's only one."""
    bare = [location.side for location in (*locations, *other) if not location.places]
    named = {location.side for location in other if location.side}
    sides = bare or (list(named) if len(named) == 1 else [""])
    return tuple(
        Location(side, location.places)
        for location in locations
        if location.places
        for side in ([location.side] if location.side else sides)
    )


def _with_known_sides(locations: tuple[Location, ...], earlier: list[Placement]) -> tuple[Location, ...]:
    """Sides of places that the finding before had on a side: "irregular right 5th rib, likely an old rib fracture"."""
    if not earlier:
        return locations
    known = {location.places: location.side for location in earlier[-1].locations}
    return tuple(Location(one.side or known.get(one.places, ""), one.places) for one in locations)
