"""What a run left, as JSON with one row a line, so that two runs can be compared line by line."""

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

# in the folder that the stages share: what was measured, and torch.compile's seconds
MEASUREMENTS = "measurements.json"
COMPILE_SECONDS = "compile_seconds.json"

Row = dict[str, Any]
_ROWS = ("planned", "rows", "host", "memory", "stages")


@dataclass
class Results:
    """One run.

    Attributes:
        machine: The card and the software.
        date: ISO, to the second.
        limits: The card's own rates.
        compile_seconds: By operation and case, of torch.compile's search.
        planned: What was to be measured: "operation" and "case".
        rows: What was: "operation", "case", "provider" and either what `rounds.summarise` gives and "error", or
            "left_out": why not.
        host: "operation", "provider" and "microseconds" or "left_out".
        memory: "operation", "case", "provider" and "peak_mb" or "left_out".
        stages: "stage", "verdict" and "seconds".
    """

    machine: dict[str, Any] = field(default_factory=dict)
    date: str = ""
    limits: dict[str, dict[str, Any]] = field(default_factory=dict)
    compile_seconds: dict[str, float] = field(default_factory=dict)
    planned: list[Row] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    host: list[Row] = field(default_factory=list)
    memory: list[Row] = field(default_factory=list)
    stages: list[Row] = field(default_factory=list)

    def of(self, operation: str, case: str, span: str) -> dict[str, Row]:
        """The measured rows of a case by provider."""
        return {
            row["provider"]: row
            for row in self.rows
            if (row["operation"], row["case"], row.get("span")) == (operation, case, span)
        }

    def not_measured(self) -> list[Row]:
        """What was planned and has no row at all."""
        done = {(row["operation"], row["case"]) for row in self.rows}
        return [row for row in self.planned if (row["operation"], row["case"]) not in done]


def slug(facts: dict[str, Any]) -> str:
    """The card's name as a folder's, such as "nvidia-h100-80gb-hbm3"."""
    return re.sub(r"[^a-z0-9]+", "-", str(facts["name"]).lower()).strip("-")


def _rounded(value: Any) -> Any:
    """Floats to four significant digits: enough for timings, and small in a diff."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def to_json(results: Results) -> str:
    everything = asdict(results)
    lists = {name: everything.pop(name) for name in _ROWS}
    head = json.dumps(_rounded(everything), indent=1).removesuffix("\n}")
    parts = [head]
    for name, rows in lists.items():
        lines = ",\n".join(json.dumps(_rounded(row)) for row in rows)
        parts.append(f' "{name}": [\n{lines}\n ]' if rows else f' "{name}": []')
    return ",\n".join(parts) + "\n}\n"


def load(path: Path) -> Results:
    return Results(**json.loads(path.read_text()))
