"""What every adapter can be told."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from spf_data.findings import Finding

Views = Literal["frontal", "all"]
Split = Literal["hash", "own"]
Policy = Literal["unknown", "positive", "negative"]

LabelReport = Callable[[str], list[Finding]]


@dataclass(frozen=True)
class PrepareOptions:
    """What an adapter is told.

    Raises:
        ValueError: If `views`, `split`, `uncertain` or `not_mentioned` is none of its values.

    Attributes:
        root: Folder of the images; the manifest's paths are relative to it.
        tables: Folder of the label tables (or the table itself, where there is only one); the root if None.
        reports: Folder or archive of MIMIC-CXR's reports; looked for among the tables if None.
        require_images: Whether each image must be there and hold bytes. Without, paths are where the data set puts
            them.
        views: "frontal" keeps AP and PA, "all" every view.
        split: "hash" splits by a hash of the patient, "own" as the data set does.
        fractions: Share of the patients in train, validation and test; split "hash" only.
        seed: Another seed gives another split; split "hash" only.
        uncertain: What a label that the source calls uncertain becomes; MIMIC-CXR and own only.
        not_mentioned: What a label becomes that CheXpert's labeller left empty; MIMIC-CXR only.
        patient_salt: If not empty, patients are named by a keyed hash of their identifiers.
        label_report: Reads findings from a report's text; without, reports are not read. MIMIC-CXR and Open-i only.
    """

    root: Path
    tables: Path | None = None
    reports: Path | None = None
    require_images: bool = True
    views: Views = "frontal"
    split: Split = "hash"
    fractions: tuple[float, float, float] = (0.7, 0.1, 0.2)
    seed: int = 0
    uncertain: Policy = "unknown"
    not_mentioned: Literal["unknown", "negative"] = "unknown"
    patient_salt: str = ""
    label_report: LabelReport | None = None

    def __post_init__(self) -> None:
        choices = {"views": get_args(Views), "split": get_args(Split), "uncertain": get_args(Policy)}
        choices["not_mentioned"] = ("unknown", "negative")
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, got {getattr(self, name)!r}")

    @property
    def tables_folder(self) -> Path:
        """Where the label tables are."""
        return self.root if self.tables is None else self.tables

    def as_json(self) -> str:
        """What the manifest depends on, without paths, which differ by machine, and without the salt."""
        names = ("require_images", "views", "split", "fractions", "seed", "uncertain", "not_mentioned")
        values = {name: getattr(self, name) for name in names}
        values["patients"] = "keyed hash" if self.patient_salt else "the source's pseudonyms"
        values["reports"] = "labelled" if self.label_report else "not read"
        return json.dumps(values, sort_keys=True)
