"""Which combinations become labels: by count, always with the counterpart on the other side."""

from collections.abc import Mapping
from dataclasses import dataclass

from spf_data.catalogue.counting import Count
from spf_data.catalogue.places import Combination, Rules

CHOSEN = ""
_NONE = Count(0, 0, 0)
# A region with this share of a finding's images on a side says more than the side alone, of about the same images.
_NEARLY_ALL = 0.8


@dataclass(frozen=True)
class SelectionRule:
    """How many labels, and how frequent.

    Attributes:
        labels: Their number; fewer where not as many are frequent enough.
        minimum_images: That a label must at least have.
        minimum_patients: That a label must at least have.

    Raises:
        ValueError: If a number is not positive.
    """

    labels: int = 57
    minimum_images: int = 100
    minimum_patients: int = 100

    def __post_init__(self) -> None:
        for name in ("labels", "minimum_images", "minimum_patients"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def holds(self, count: Count) -> bool:
        """Whether a label is frequent enough."""
        return count.images >= self.minimum_images and count.patients >= self.minimum_patients


@dataclass(frozen=True)
class Selection:
    """What was chosen.

    Attributes:
        chosen: The labels, the most frequent first; of a pair the right side first.
        reasons: For every combination that was counted why it was not chosen, or `CHOSEN`.
    """

    chosen: tuple[Combination, ...]
    reasons: dict[Combination, str]


def select_labels(counts: Mapping[Combination, Count], rules: Rules, rule: SelectionRule) -> Selection:
    """Choose the most frequent combinations.

    A pair (right and left) is chosen or not as a whole, by the count of its rarer side; "bilateral" is its own
    counterpart. If one place is left and a pair is next, the next bilateral label takes it.

    Raises:
        ValueError: If `rule.labels` is less than the labels that are in every set.
    """
    always = [place for unit in rules.units for place in unit]
    if rule.labels < len(always):
        raise ValueError(f"labels must be at least {len(always)}, which are in every set, got {rule.labels}")
    reasons = {place: _reason(place, counts, rules, rule) for place in counts}
    units = {tuple(sorted({place, place.mirrored})) for place, reason in reasons.items() if reason == CHOSEN}
    ranked = sorted(units - set(rules.units), key=lambda unit: (-_rank(unit, counts), unit))
    chosen = always
    for unit in ranked:
        if len(chosen) + len(unit) <= rule.labels:
            chosen = [*chosen, *unit]
    for place in counts:
        if place in chosen:
            reasons[place] = CHOSEN
        elif reasons[place] == CHOSEN:
            reasons[place] = "rarer than those chosen"
    return Selection(tuple(sorted(chosen, key=lambda place: _order(place, counts))), reasons)


def _reason(place: Combination, counts: Mapping[Combination, Count], rules: Rules, rule: SelectionRule) -> str:
    """Why a combination can not be chosen; `CHOSEN` if it can."""
    term = rules.vocabulary.findings[place.finding]
    if term.kind in ("device", "technical"):
        return term.kind
    if place.finding in rules.left_out:
        return rules.left_out[place.finding]
    if not place.side:
        return "no side"
    if place.region and (
        place.region not in rules.regions or place.region in rules.not_in.get(place.finding, frozenset())
    ):
        return "not a region of labels"
    if not rule.holds(counts[place]):
        return "too rare"
    if not rule.holds(counts.get(place.mirrored, _NONE)):
        return "too rare on the other side"
    region = "" if place.region else _nearly_always(place, counts, rules)
    return f"nearly always {region}" if region else CHOSEN


def _nearly_always(place: Combination, counts: Mapping[Combination, Count], rules: Rules) -> str:
    """The region that a finding is nearly always in, on both sides; "" if there is none."""
    for region in rules.regions:
        within = [one._replace(region=region) for one in (place, place.mirrored)]
        shares = [counts.get(one, _NONE).images / counts[one._replace(region="")].images for one in within]
        if min(shares) >= _NEARLY_ALL and region not in rules.not_in.get(place.finding, frozenset()):
            return region
    return ""


def _rank(unit: tuple[Combination, ...], counts: Mapping[Combination, Count]) -> int:
    return min(counts.get(place, _NONE).images for place in unit)


def _order(place: Combination, counts: Mapping[Combination, Count]) -> tuple[int, Combination, bool]:
    pair = (place, place.mirrored)
    return -_rank(pair, counts), min(pair), place.side == "left"
