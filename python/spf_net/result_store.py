"""Results of a long study on the disk: one task after the other is added, and none is run twice."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spf_net.checkpoint import write_atomically


class ResultStore:
    """A JSON file with the settings of a study and the results of its tasks.

    Attributes:
        path: The file.
        settings: What all results depend on.
        results: By the task's name, plain values.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], *, overwrite: bool = False) -> None:
        """Read what there is.

        Args:
            path: The file; made with the first result.
            settings: Plain values.
            overwrite: Start without results; those in the file are replaced with the first new one.

        Raises:
            ValueError: If the file is one of other settings or no such file, and is not to be replaced.
        """
        self.path = path
        # As they will be read again: tuples become lists.
        self.settings: dict[str, Any] = json.loads(json.dumps(settings))
        self.results: dict[str, Any] = {}
        if path.exists() and not overwrite:
            self._read()

    def add(self, name: str, result: Mapping[str, Any]) -> None:
        """Keep a result, on the disk when this returns.

        Raises:
            OSError: If it can not be written.
        """
        self.results[name] = dict(result)
        # A result a line, so that a diff shows which ones changed.
        lines = [
            f" {json.dumps(key)}: {json.dumps(self.results[key], allow_nan=False)}" for key in sorted(self.results)
        ]
        body = ",\n".join(lines)
        text = f'{{"settings": {json.dumps(self.settings, allow_nan=False)},\n"results": {{\n{body}\n}}}}\n'
        write_atomically(self.path, text.encode())

    def _read(self) -> None:
        try:
            document = json.loads(self.path.read_bytes())
            settings, results = document["settings"], document["results"]
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{self.path} must hold settings and results of a study, got something else") from error
        names = {**settings, **self.settings}
        if changed := sorted(name for name in names if settings.get(name) != self.settings.get(name)):
            raise ValueError(
                f"{self.path} holds results of other settings ({', '.join(changed)}): choose another --output, or pass "
                "--overwrite to replace them"
            )
        self.results = results
