"""What `prepare` read, kept and dropped: counts and row numbers, never an identifier in the clear."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

EXAMPLES = 5

Where = int | str


def hashed(identifier: str) -> str:
    """A short pseudonym of `identifier` for logs and reports: who holds the data can find it again."""
    return "#" + hashlib.sha256(f"spf_data:{identifier}".encode()).hexdigest()[:12]


@dataclass
class TableReport:
    """How one table was read: its rows, and those with another number of fields or not in UTF-8."""

    rows: int = 0
    malformed: list[int] = field(default_factory=list)
    not_utf8: list[int] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Counts, and the first row numbers (1 is the first below the header)."""
        result: dict[str, Any] = {"rows": self.rows}
        for name, numbers in (("malformed rows", self.malformed), ("rows not in UTF-8", self.not_utf8)):
            if numbers:
                result[name] = {"count": len(numbers), "rows": numbers[:EXAMPLES]}
        return result


class PrepareReport:
    """Counts of what happened; `read = kept + dropped` holds for images at every time.

    Attributes:
        read: Images that the source names.
        kept: Images that are in the manifest.
        dropped: How many were left out, by reason.
        noticed: How often something else happened that a user should know of: a repaired value, a skipped box.
        tables: By file name, how each table was read.
    """

    def __init__(self) -> None:
        self.read = 0
        self.kept = 0
        self.dropped: Counter[str] = Counter()
        self.noticed: Counter[str] = Counter()
        self.tables: dict[str, TableReport] = {}
        self._examples: dict[str, list[Where]] = {}

    def drop(self, reason: str, where: Where) -> None:
        """Count an image that is left out; `where` is its row, or the name of its document, which is hashed."""
        self.dropped[reason] += 1
        examples = self._examples.setdefault(reason, [])
        if len(examples) < EXAMPLES:
            examples.append(where if isinstance(where, int) else hashed(where))

    def notice(self, what: str, count: int = 1) -> None:
        """Count something that did not cost an image."""
        if count:
            self.noticed[what] += count

    def table(self, name: str) -> TableReport:
        """The report of the table called `name`."""
        return self.tables.setdefault(name, TableReport())

    def as_json(self) -> dict[str, Any]:
        """Everything, for a JSON file."""
        dropped = {
            reason: {"count": count, "where": self._examples[reason]} for reason, count in self.dropped.most_common()
        }
        return {
            "images": {"read": self.read, "kept": self.kept, "dropped": sum(self.dropped.values())},
            "dropped": dropped,
            "noticed": dict(self.noticed.most_common()),
            "tables": {name: table.as_json() for name, table in self.tables.items()},
        }
