"""What one run measured: read from pytest-benchmark's JSON, asked by suite, case, provider and span, written slim."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.peers import is_ours

MAIN_FP32 = "B12-64x64-D128-fp32"
MAIN_BF16 = "B12-64x64-D128-bf16"

Case = dict[str, Any]
Numbers = dict[str, float]


@dataclass(frozen=True)
class Results:
    """One run.

    Attributes:
        machine: The facts that conftest adds.
        date: ISO, to the second.
        cases: What `rounds.measure` left, in the order of measurement.
        memory: What `rounds.measure_memory` left, by the step that was measured.
    """

    machine: dict[str, Any]
    date: str
    cases: list[Case]
    memory: dict[str, dict[str, Any]]

    def suite(self, name: str) -> list[Case]:
        """Its cases in the order of measurement."""
        return [case for case in self.cases if case["suite"] == name]

    def numbers(self, suite: str, label: str, provider: str, span: str) -> Numbers | None:
        """What was measured for a provider; None where it did not take part."""
        for case in self.suite(suite):
            if case["case"] == label:
                found: Numbers | None = case["providers"].get(provider, {}).get(span)
                return found
        return None


def load(path: Path) -> Results:
    """Reads the JSON of pytest-benchmark.

    Raises:
        ValueError: A JSON that does not come from the benchmarks of this folder.
    """
    raw = json.loads(path.read_text())
    if "spf" not in raw.get("machine_info", {}):
        raise ValueError(f"path must be a JSON of the benchmarks in bench/, got {path}")
    left = [benchmark["extra_info"] for benchmark in raw["benchmarks"]]
    return Results(
        machine=raw["machine_info"]["spf"],
        date=raw["datetime"][:19],
        cases=[info for info in left if info["suite"] != "memory"],
        memory={info["step"]: info for info in left if info["suite"] == "memory"},
    )


def best_peer(case: Case, span: str) -> str:
    """The fastest provider that is not ours."""
    peers: dict[str, float] = {
        name: spans[span]["median_ms"]
        for name, spans in case["providers"].items()
        if not is_ours(name) and span in spans
    }
    return min(peers, key=peers.__getitem__)


def machine_name(machine: dict[str, Any]) -> str:
    """The processor and its cores as a folder's name, such as "amd-epyc-family-26-2-cores"."""
    model = re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)", "", str(machine["cpu"]).lower())).strip("-")
    return f"{model}-{machine['cores']}-cores"


def _rounded(value: Any) -> Any:
    """Floats to four significant digits: enough for timings, and small in a diff."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _rows(case: Case) -> list[dict[str, Any]]:
    """One row a limit, and one a provider and span."""
    head = {"suite": case["suite"], "case": case["case"]}
    rows = [{**head, "provider": limit, **numbers} for limit, numbers in case["limits"].items()]
    for provider, spans in case["providers"].items():
        error = max(case["errors"][provider].values())
        rows += [
            {**head, "provider": provider, "span": span, **numbers, "error": error} for span, numbers in spans.items()
        ]
    return [{key: _rounded(value) for key, value in row.items()} for row in rows]


def slim_json(results: Results) -> str:
    """Machine and memory, then every measured number, one row a line so that two runs can be compared line by line."""
    lines = ",\n".join(json.dumps(row) for case in results.cases for row in _rows(case))
    head = json.dumps({"date": results.date, "machine": results.machine, "memory": results.memory}, indent=1)
    return f'{head[:-2]},\n "rows": [\n{lines}\n ]\n}}\n'
