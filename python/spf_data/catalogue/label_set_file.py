"""A label set as a file that people read and that another catalogue can be made with."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from spf_data.catalogue.places import Combination, Rules
from spf_data.vocabulary import read_data

_SIDES = ("right", "left", "bilateral")


@dataclass(frozen=True)
class LabelSetFile:
    """The labels of a set, in order.

    Attributes:
        places: Finding, side and region of each.
    """

    places: tuple[Combination, ...]

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the labels in their order: two sets with the same hash have the same columns."""
        return hashlib.sha256(json.dumps(self.places).encode()).hexdigest()


def read_label_set(path: Path, rules: Rules) -> LabelSetFile:
    """Read the labels of a `label_set.yaml`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is none, names a finding or region that the vocabulary does not have, a side that is none, or
            its hash is that of other labels.
    """
    try:
        data: dict[str, Any] = read_data(path)
        entries = [(label["finding"], label["side"], label["zone"]) for label in data["labels"]]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a label set: {error}") from error
    found = LabelSetFile(tuple(Combination(*entry) for entry in entries))
    for place in found.places:
        known = place.finding in rules.vocabulary.findings and place.region in {"", *rules.vocabulary.places}
        if not known or place.side not in _SIDES:
            raise ValueError(f"{path} has a label that is none of the vocabulary's: {'|'.join(place)!r}")
    if data.get("hash") != found.hash:
        raise ValueError(f"{path}: hash must be that of its labels, {found.hash}, got {data.get('hash')}")
    return found


def label_set_text(labels: LabelSetFile, rules: Rules, counts: Mapping[str, Mapping[str, int]], about: object) -> str:
    """A label set as YAML.

    Args:
        labels: The labels.
        rules: Name them.
        counts: By name what was counted of a label.
        about: How they were chosen, and from what; written above them.
    """
    entries = []
    for place in labels.places:
        label = rules.label(place)
        entry = {"name": label.name, "finding": label.finding, "side": label.side, "zone": label.zone}
        entries.append({**entry, "always": place in rules.always, **counts[label.name]})
    content = {"version": "1", "hash": labels.hash, "about": about, "labels": entries}
    return yaml.safe_dump(content, sort_keys=False, width=120, allow_unicode=True)
