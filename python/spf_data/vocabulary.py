"""Findings, places, sides and cue words, read from files that a radiologist can read and edit."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import yaml

from spf_data.findings import Kind, Laterality, Severity
from spf_data.phrases import PhraseTree, in_the_plural

FOLDER = Path(__file__).parent / "vocabulary"
VERSION = "1"

Role = Literal["finding", "attribute", "place", "side", "comparison of sides", "severity", "normal", "ignored"]


_PLACE_KEYS = frozenset({"name", "part_of", "region", "side", "pair", "words", "left", "right", "bilateral"})
_FINDING_KEYS = frozenset(
    {"name", "kind", "words", "left", "right", "places", "sided", "is_in", "inherits", "pair", "procedure", "absorbs"}
    | {"made_of"}
)
_CUES = frozenset(
    {"negation_before", "negation_after", "normal_before", "resolved_before", "resolved_after", "resolved_in_part"}
    | {"uncertain_before", "uncertain_after", "not_a_cue", "double_negation", "clause_end"}
    | {"not_said_before", "not_said_after", "status_before"}
)
_STATEMENT_WORDS = frozenset({"starts_statement", "ends_statement", "affirms"})
_GRAMMAR_WORDS = frozenset({"joins_places", "separates", "prepositions", "locating", "contrasts", "verbs"})


@dataclass(frozen=True)
class Term:
    """What a phrase of a report stands for.

    Attributes:
        role: What it does in a sentence.
        name: The finding, attribute, place or severity; for a cue, the list of `context.yaml` it is in.
        side: The side that the phrase itself names ("bibasilar").
        places: The places it names.
    """

    role: Role
    name: str
    side: Laterality = ""
    places: tuple[str, ...] = ()


@dataclass(frozen=True)
class FindingTerm:
    """A finding of the vocabulary.

    Attributes:
        name: Its canonical name.
        kind: What sort of thing it is.
        places: Where it may be, without the parts of these places.
        sided: Whether a side has a meaning.
        inherits: Whether it may have the place of a finding before it.
        procedure: Whether "status post" says that it is there.
        absorbs: Attributes that directly before it say nothing more.
        is_in: Where it always is, said or not; "" if that is nowhere in particular.
        made_of: (attribute, place) pairs that make it up when a sentence names both.
    """

    name: str
    kind: Kind
    places: frozenset[str]
    sided: bool
    inherits: bool
    procedure: bool
    absorbs: frozenset[str]
    is_in: str
    made_of: frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Place:
    """A place of the vocabulary.

    Attributes:
        name: Its canonical name.
        part_of: The larger place it lies in, "" if none.
        region: The region it counts as in scoring.
        side: The side it is always on, "" if it has none or one on each side.
    """

    name: str
    part_of: str
    region: str
    side: Laterality


@dataclass
class Vocabulary:
    """All that the labeller knows about words.

    Attributes:
        findings: By name.
        places: By name.
        terms: Phrases for findings, attributes, places, sides, severities.
        cues: Phrases of `context.yaml`; a cue is the name of the list it is in.
        words: Word classes of `grammar.yaml` and `context.yaml`, by name.
        compositions: (attribute, place) -> finding.
    """

    findings: dict[str, FindingTerm] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    terms: PhraseTree[Term] = field(default_factory=PhraseTree)
    cues: PhraseTree[str] = field(default_factory=PhraseTree)
    words: dict[str, frozenset[str]] = field(default_factory=dict)
    compositions: dict[tuple[str, str], str] = field(default_factory=dict)

    def within(self, place: str) -> tuple[str, ...]:
        """The place and the larger places it lies in, smallest first.

        Raises:
            ValueError: If it is not a place of the vocabulary.
        """
        if place not in self.places:
            raise ValueError(f"place {place!r} is not in the vocabulary")
        chain: list[str] = []
        while place:
            chain.append(place)
            place = self.places[place].part_of
        return tuple(chain)

    def allows(self, finding: str, place: str) -> bool:
        """Whether a finding may be in a place.

        Raises:
            ValueError: If one of them is not in the vocabulary.
        """
        if finding not in self.findings:
            raise ValueError(f"finding {finding!r} is not in the vocabulary")
        return not self.findings[finding].places.isdisjoint(self.within(place))

    def located(self, finding: str, places: Iterable[str]) -> tuple[str, ...]:
        """The places of a finding with the one where it always is.

        Raises:
            ValueError: If one of them is not in the vocabulary.
        """
        if finding not in self.findings:
            raise ValueError(f"finding {finding!r} is not in the vocabulary")
        always = self.findings[finding].is_in
        return self.most_specific((*places, always) if always else places)

    def most_specific(self, places: Iterable[str]) -> tuple[str, ...]:
        """The places without those that another one is part of, sorted."""
        named = set(places)
        larger = {place for name in named for place in self.within(name)[1:]}
        return tuple(sorted(named - larger))


def load_vocabulary(path: Path | None = None) -> Vocabulary:
    """Read a vocabulary.

    Args:
        path: A folder with `findings.yaml`, `anatomy.yaml`, `modifiers.yaml`, `context.yaml` and `grammar.yaml`;
            None for the one of this package.

    Raises:
        ValueError: If a file is of another version or names what no file defines; with the file and the entry.
        FileNotFoundError: If a file is missing.
    """
    folder = FOLDER if path is None else path
    vocabulary = Vocabulary()
    _add_anatomy(vocabulary, read_data(folder / "anatomy.yaml"))
    _add_findings(vocabulary, read_data(folder / "findings.yaml"))
    _add_modifiers(vocabulary, read_data(folder / "modifiers.yaml"))
    _add_context(vocabulary, read_data(folder / "context.yaml"))
    _add_grammar(vocabulary, read_data(folder / "grammar.yaml"))
    return vocabulary


def read_data(path: Path) -> dict[str, Any]:
    """A YAML file of the vocabulary without its version; every scalar is text, so that `no` and `on` need no quotes.

    Raises:
        ValueError: If its version is not the one this code reads.
    """
    loader = yaml.BaseLoader(path.read_text(encoding="utf-8"))
    try:
        data = loader.get_single_data()
    finally:
        loader.dispose()
    if not isinstance(data, dict) or data.pop("version", None) != VERSION:
        raise ValueError(f"{path.name} must be a mapping with version: {VERSION}")
    return cast("dict[str, Any]", data)


def _add_anatomy(vocabulary: Vocabulary, data: Mapping[str, Any]) -> None:
    for entry in data["anatomy"]:
        name = entry["name"]
        _check_keys(entry, _PLACE_KEYS, vocabulary.places, "anatomy.yaml")
        own_side = cast(Laterality, entry.get("side", ""))
        vocabulary.places[name] = Place(name, entry.get("part_of", ""), entry.get("region", name), own_side)
        sides: dict[str, Laterality] = {"words": own_side, "left": "left", "right": "right", "bilateral": "bilateral"}
        for key, side in sides.items():
            term = Term("place", name, side, (name,))
            for phrase in entry.get(key, ()):
                vocabulary.terms.add(phrase, term)
                in_plural = replace(term, side="bilateral") if entry.get("pair") == "true" and not side else term
                vocabulary.terms.add(in_the_plural(phrase), in_plural)
    for place in vocabulary.places.values():
        for named in (place.part_of, place.region):
            if named and named not in vocabulary.places:
                raise ValueError(f"anatomy.yaml: {place.name!r} names {named!r}, which is no place")
    for phrase, places in data["both_of"].items():
        _reject_unknown(places, vocabulary.places, f"anatomy.yaml: both_of {phrase!r}")
        term = Term("place", phrase, places=tuple(places))
        vocabulary.terms.add(phrase, term)
        vocabulary.terms.add(in_the_plural(phrase), term)


def _add_findings(vocabulary: Vocabulary, data: Mapping[str, Any]) -> None:
    for name, phrases in data["attributes"].items():
        for phrase in phrases:
            vocabulary.terms.add(phrase, Term("attribute", name))
            vocabulary.terms.add(in_the_plural(phrase), Term("attribute", name))
    for entry in data["findings"]:
        _check_keys(entry, _FINDING_KEYS, vocabulary.findings, "findings.yaml")
        finding = _finding(entry)
        where = f"findings.yaml: {finding.name!r}"
        _reject_unknown(finding.places | ({finding.is_in} - {""}), vocabulary.places, where)
        _reject_unknown((place for _, place in finding.made_of), vocabulary.places, where)
        attributes = finding.absorbs | {attribute for attribute, _ in finding.made_of}
        _reject_unknown(attributes, data["attributes"], where)
        vocabulary.findings[finding.name] = finding
        vocabulary.compositions.update(dict.fromkeys(finding.made_of, finding.name))
        sides: dict[str, Laterality] = {"words": "", "left": "left", "right": "right"}
        for key, side in sides.items():
            term = Term("finding", finding.name, side)
            for phrase in entry.get(key, ()):
                vocabulary.terms.add(phrase, term)
                in_plural = replace(term, side="bilateral") if entry.get("pair") == "true" else term
                vocabulary.terms.add(in_the_plural(phrase), in_plural)
    for phrase in data["normal"]:
        vocabulary.terms.add(phrase, Term("normal", "normal"))


def _finding(entry: Mapping[str, Any]) -> FindingTerm:
    kind = entry.get("kind", "finding")
    if kind not in get_args(Kind):
        raise ValueError(f"findings.yaml: kind of {entry['name']!r} must be one of {get_args(Kind)}, got {kind!r}")
    pairs = {(attribute, place) for attribute, places in entry.get("made_of", {}).items() for place in places}
    return FindingTerm(
        name=entry["name"],
        kind=kind,
        places=frozenset(entry.get("places", ())),
        sided=entry.get("sided", "true") == "true",
        inherits=entry.get("inherits", "true") == "true",
        procedure=entry.get("procedure") == "true",
        absorbs=frozenset(entry.get("absorbs", ())),
        is_in=entry.get("is_in", ""),
        made_of=frozenset(pairs),
    )


def _add_modifiers(vocabulary: Vocabulary, data: Mapping[str, Any]) -> None:
    for side, phrases in data["laterality"].items():
        _reject_unknown([side], get_args(Laterality), "modifiers.yaml: laterality")
        for phrase in phrases:
            vocabulary.terms.add(phrase, Term("side", side, side))
    for severity, phrases in data["severity"].items():
        _reject_unknown([severity], get_args(Severity), "modifiers.yaml: severity")
        for phrase in phrases:
            vocabulary.terms.add(phrase, Term("severity", severity))
    for phrase in data["comparison_of_sides"]:
        vocabulary.terms.add(phrase, Term("comparison of sides", "bilateral", "bilateral"))
    for phrase in (*data["no_side"], *data["asides"]):
        vocabulary.terms.add(phrase, Term("ignored", phrase))


def _add_context(vocabulary: Vocabulary, data: Mapping[str, Any]) -> None:
    _expect_lists(data, _CUES | _STATEMENT_WORDS, "context.yaml")
    for name, phrases in data.items():
        if name in _STATEMENT_WORDS:
            vocabulary.words[name] = frozenset(phrases)
            continue
        for phrase in phrases:
            vocabulary.cues.add(phrase, name)


def _add_grammar(vocabulary: Vocabulary, data: Mapping[str, Any]) -> None:
    _expect_lists(data, _GRAMMAR_WORDS, "grammar.yaml")
    vocabulary.words.update({name: frozenset(words) for name, words in data.items()})


def _expect_lists(data: Mapping[str, Any], names: frozenset[str], where: str) -> None:
    if data.keys() != names:
        raise ValueError(f"{where} must have the lists {sorted(names)}, got {sorted(data)}")


def _check_keys(entry: Mapping[str, Any], known: frozenset[str], earlier: Iterable[str], where: str) -> None:
    name = entry.get("name")
    if not name or name in earlier:
        raise ValueError(f"{where}: name must be given and new, got {name!r}")
    _reject_unknown(entry, known, f"{where}: {name!r}")


def _reject_unknown(names: Iterable[str], known: Iterable[str], where: str) -> None:
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ValueError(f"{where} names {unknown}, which is not defined")
