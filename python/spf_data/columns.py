"""Arrays in a folder, one file each, which any number of processes map into memory instead of holding copies."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spf_data.manifest import open_atomically

_FACTS = "columns.json"


def write_columns(folder: Path, arrays: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, Any]) -> None:
    """Write arrays and whatever JSON holds; the folder appears whole or not at all.

    Where another process was faster, its folder stays.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for name, array in arrays.items():
            with open_atomically(temporary / f"{name}.npy") as opened:
                np.lib.format.write_array(opened, array, allow_pickle=False)
        with open_atomically(temporary / _FACTS) as opened:
            opened.write(json.dumps(facts, indent=2).encode())
        try:
            temporary.replace(folder)
        except OSError:
            if not has_columns(folder):
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def has_columns(folder: Path) -> bool:
    """Whether `write_columns` has written `folder`."""
    return (folder / _FACTS).is_file()


def read_columns(folder: Path) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """What `write_columns` wrote: arrays by name, mapped into memory, and the rest.

    Changes of the arrays stay in this process.

    Raises:
        FileNotFoundError: If there is nothing.
        ValueError: If a file is damaged.
    """
    if not has_columns(folder):
        raise FileNotFoundError(f"{folder} holds no columns")
    try:
        facts: dict[str, Any] = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        # "c": torch warns of arrays that can not be written to.
        arrays = {path.stem: np.load(path, mmap_mode="c").view(np.ndarray) for path in sorted(folder.glob("*.npy"))}
    except (ValueError, EOFError) as error:
        raise ValueError(f"{folder} is damaged: {error}; delete it") from error
    return arrays, facts
