"""What a run leaves behind to look at: TensorBoard scalars and a CSV file, one row an epoch."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from spf_net.checkpoint import write_atomically
from spf_net.history import EpochRow


class RunLog:
    """Writes `tensorboard/` and `metrics.csv` in the folder of a run."""

    def __init__(self, folder: Path, epochs_done: int) -> None:
        """Open the log.

        Args:
            folder: Of the run.
            epochs_done: TensorBoard forgets what a run that broke off wrote after this epoch.
        """
        self._table = folder / "metrics.csv"
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=epochs_done + 1)

    def write(self, history: Sequence[EpochRow]) -> None:
        """Add the last row to TensorBoard and replace the CSV file by all rows; "epoch" counts from 1."""
        latest = history[-1]
        for name, value in latest.items():
            if name != "epoch":
                self._writer.add_scalar(name, value, latest["epoch"])
        self._writer.flush()
        text = io.StringIO()
        table = csv.DictWriter(text, fieldnames=list(latest))
        table.writeheader()
        table.writerows(history)
        write_atomically(self._table, text.getvalue().encode())

    def close(self) -> None:
        """Close TensorBoard's file."""
        self._writer.close()
