"""Finished fits on the disk, so that a study that was stopped goes on where it was."""

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spf_net.checkpoint import write_atomically

Scores = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Record:
    """What is kept of a fit.

    Attributes:
        scores: float32 (N, L), logits of the N test images.
        validation_loss: Of the best epoch; what everything is selected by.
        best_epoch: Counts from 1; 0 where there are no epochs.
        epochs: How many there were.
        seconds: All epochs and their validation.
        parameters: Trainable ones.
    """

    scores: Scores
    validation_loss: float
    best_epoch: int
    epochs: int
    seconds: float
    parameters: int


class Store:
    """One file a fit, named by a hash of its settings; arrays without pickle."""

    def __init__(self, folder: Path) -> None:
        """Take the folder, which is created when the first fit is kept."""
        self._folder = folder

    def find(self, settings: Mapping[str, Any]) -> Record | None:
        """The fit with these settings, if it is finished.

        Raises:
            ValueError: If the file is damaged.
        """
        path = self._path(settings)
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as stored:
                numbers = json.loads(str(stored["numbers"]))
                return Record(scores=stored["scores"], **numbers)
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} is damaged; delete it to fit again: {error}") from error

    def keep(self, settings: Mapping[str, Any], record: Record) -> None:
        """Write a finished fit, whole or not at all.

        Raises:
            OSError: If it can not be written.
        """
        numbers = {name: value for name, value in vars(record).items() if name != "scores"}
        opened = io.BytesIO()
        np.savez(opened, scores=record.scores, numbers=json.dumps(numbers), settings=_document(settings))
        write_atomically(self._path(settings), opened.getvalue())

    def _path(self, settings: Mapping[str, Any]) -> Path:
        return self._folder / f"{hashlib.sha256(_document(settings).encode()).hexdigest()[:24]}.npz"


def _document(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True)


def digest(*arrays: npt.NDArray[Any]) -> str:
    """A hash of arrays, to name rows in the settings of a fit: 24 hexadecimal digits."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype} {array.shape} ".encode())
        found.update(array.tobytes())
    return found.hexdigest()[:24]
