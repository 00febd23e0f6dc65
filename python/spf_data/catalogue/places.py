"""How the place of a statement and the place of a label lie to each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from spf_data.findings import Finding
from spf_data.labels import Label, Side
from spf_data.vocabulary import FOLDER, Vocabulary, read_data

Relation = Literal["same", "inside", "around", "overlaps", "elsewhere"]
_KEYS = {"always", "left_out", "no_region", "always_in", "not_in", "regions", "overlap", "names"}
_SIDES = ("right", "left", "bilateral")
_OTHER = {"right": "left", "left": "right"}


class Combination(NamedTuple):
    """A finding in a place.

    Attributes:
        finding: The vocabulary's name.
        side: "right", "left", "bilateral", or "" where none is named.
        region: The vocabulary's region, or "": wherever on that side.
    """

    finding: str
    side: str
    region: str

    @property
    def mirrored(self) -> "Combination":
        """The same on the other side."""
        return self._replace(side=_OTHER.get(self.side, self.side))


@dataclass(frozen=True)
class Rules:
    """What label sets are made of; the parts are explained in `vocabulary/catalogue.yaml`."""

    vocabulary: Vocabulary
    always: Mapping[Combination, str]
    left_out: Mapping[str, str]
    no_region: frozenset[str]
    always_in: Mapping[str, str]
    not_in: Mapping[str, frozenset[str]]
    regions: Mapping[str, str]
    overlap: frozenset[frozenset[str]]
    names: Mapping[str, str]

    def regions_of(self, finding: Finding) -> tuple[tuple[str, ...], ...]:
        """For each place of a finding its region and the larger ones around it, smallest first.

        Where the finding always is (effusions in the pleura) and what is as large as a side is no region.
        """
        always = self.vocabulary.findings[finding.core].is_in
        nowhere = self.no_region | {self.always_in.get(finding.core, "")}
        nowhere |= set(self.vocabulary.within(always)) if always else set()
        chains = {self._chain(place, nowhere) for place in finding.anatomy}
        return tuple(sorted(chains - {()}))

    def relation(self, finding: Finding, region: str) -> Relation:
        """How the place of a finding lies to a region; its side does not matter here.

        Returns:
            "same"; "inside": the finding is in a part of the region; "around": it is in something larger, or not said
            where; "overlaps"; "elsewhere". If it is in several places the first of these that holds for one.
        """
        chains = self.regions_of(finding)
        if not region:
            return "inside" if chains else "same"
        if not chains:
            return "around"
        larger = set(self.vocabulary.within(region))
        relations = {self._relation(chain, region, larger) for chain in chains}
        return next(relation for relation in _RELATIONS if relation in relations)

    def _relation(self, chain: tuple[str, ...], region: str, larger: set[str]) -> Relation:
        if chain[0] == region:
            return "same"
        if region in chain:
            return "inside"
        if chain[0] in larger:
            return "around"
        return "overlaps" if frozenset((chain[0], region)) in self.overlap else "elsewhere"

    def _chain(self, place: str, nowhere: frozenset[str]) -> tuple[str, ...]:
        regions = (self.vocabulary.places[name].region for name in self.vocabulary.within(place))
        return tuple(dict.fromkeys(region for region in regions if region not in nowhere))

    def name(self, place: Combination) -> str:
        """The name of a label."""
        if place in self.always:
            return self.always[place]
        finding, side, region = place
        if not region and side in _OTHER and finding in self.names:
            return self.names[finding].format(side=side)
        return " ".join(word for word in (side, self.regions.get(region, region), finding) if word)

    def label(self, place: Combination) -> Label:
        """A label, as a network is trained with."""
        sides: dict[str, Side] = {"right": "right", "left": "left", "bilateral": "bilateral", "": "none"}
        return Label(self.name(place), place.finding, sides[place.side], place.region)

    @cached_property
    def units(self) -> tuple[tuple[Combination, ...], ...]:
        """The labels that are in every set, each with its counterpart."""
        pairs = {tuple(sorted({place, place.mirrored})) for place in self.always}
        return tuple(sorted(pairs))


_RELATIONS: tuple[Relation, ...] = ("same", "inside", "around", "overlaps", "elsewhere")


def load_rules(vocabulary: Vocabulary, path: Path | None = None) -> Rules:
    """Read what label sets are made of.

    Raises:
        ValueError: If the file lacks a part, or names a finding, region or side that there is none of.
    """
    data: dict[str, Any] = read_data(FOLDER / "catalogue.yaml" if path is None else path)
    if data.keys() != _KEYS:
        raise ValueError(f"catalogue.yaml must have {sorted(_KEYS)}, got {sorted(data)}")
    left_out = {finding: reason for reason, findings in data["left_out"].items() for finding in findings}
    named = {Combination(entry["finding"], entry["side"], entry["region"]): entry["name"] for entry in data["always"]}
    always = named | {place.mirrored: _mirrored_name(name) for place, name in named.items()}
    findings = [*left_out, *data["names"], *data["always_in"], *data["not_in"], *(place.finding for place in always)]
    _reject_unknown(vocabulary, data, findings)
    wrong = [place for place in always if place.side not in _SIDES or place.region not in {"", *data["regions"]}]
    if wrong:
        raise ValueError(f"catalogue.yaml: always must name a side and one of the regions, got {wrong}")
    overlap = frozenset(frozenset(pair) for pair in data["overlap"])
    return Rules(
        vocabulary=vocabulary,
        always=always,
        left_out=left_out,
        no_region=frozenset(data["no_region"]),
        always_in=data["always_in"],
        not_in={finding: frozenset(regions) for finding, regions in data["not_in"].items()},
        regions=data["regions"],
        overlap=overlap,
        names=data["names"],
    )


def _reject_unknown(vocabulary: Vocabulary, data: Mapping[str, Any], findings: Sequence[str]) -> None:
    unknown = sorted(set(findings) - vocabulary.findings.keys())
    lists = (*data["overlap"], *data["not_in"].values(), data["always_in"].values())
    places = {*data["no_region"], *data["regions"], *(place for listed in lists for place in listed)}
    unknown += sorted(places - vocabulary.places.keys())
    if unknown:
        raise ValueError(f"catalogue.yaml names {unknown}, which the vocabulary does not have")
    part = sorted(place for place in data["regions"] if vocabulary.places[place].region != place)
    if part:
        raise ValueError(f"catalogue.yaml: regions must be regions of anatomy.yaml, got {part}")


def _mirrored_name(name: str) -> str:
    return " ".join(_OTHER.get(word, word) for word in name.split())
