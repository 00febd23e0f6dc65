"""Training runs in forked children of one warm process: importing torch takes seconds, a fork none.

Run as a script it is that process. It reads requests, JSON lists, from its input, one a line, and answers each.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PYTHON = Path(__file__).resolve().parents[2] / "python"
# What a run can be killed in, by source files.
SAVING = [str(PYTHON / "spf_net" / name) for name in ("checkpoint.py", "run_log.py")]
STEPPING = [str(PYTHON / "spf_net" / name) for name in ("training.py", "predict.py")]
DATA = ["--data.mode=maps", "--data.num_images=60", "--data.image_size=64", "--data.seed=2"]
TINY = [
    *DATA,
    *("--extractor=none", "--extractor.downsample=16", "--head.code_size=2", "--optimizer.lr=0.01"),
    *("--training.epochs=3", "--training.batch_size=8", "--training.accelerator=cpu", "--training.resamples=10"),
]


class Forks:
    """The other side: starts the warm process, and runs train.py in its children."""

    def __init__(self) -> None:
        # One thread each, so that none has been started before a fork.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PYTHON)}
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def start(
        self,
        arguments: list[str],
        log: Path,
        environment: dict[str, str] | None = None,
        kill: tuple[list[str], int] | None = None,
        largest_file: int | None = None,
    ) -> int:
        """Runs train.py with the data set of `DATA`, some of its labels unknown.

        Args:
            arguments: Of train.py.
            log: File for its output.
            environment: Variables.
            kill: (files, number): kill -9 before this line of these source files, counting those that are run.
            largest_file: In bytes, after which writing fails.

        Returns:
            The process id.
        """
        return self._ask("start", arguments, str(log), environment or {}, kill, largest_file)

    def wait(self, process: int, seconds: float = 60) -> int:
        """The exit code, minus the signal that killed it; a process that runs longer is killed, and an error."""
        code = self._ask("wait", process, seconds)
        assert code is not None, f"process {process} did not end within {seconds} s"
        return code

    def run(self, arguments: list[str], log: Path, **options: Any) -> int:
        """`start` and `wait`."""
        return self.wait(self.start(arguments, log, **options))

    def start_ranks(self, arguments: list[str], logs: Path, kill: dict[int, tuple[list[str], int]]) -> list[int]:
        """Two processes that train together, with logs rank0 and rank1; `kill` by rank."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        ranks = []
        for rank in (0, 1):
            environment = {"LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            log = logs / f"rank{rank}"
            ranks.append(self.start([*arguments, "--devices=2"], log, environment, kill.get(rank)))
        return ranks

    def run_ranks(
        self, arguments: list[str], logs: Path, kill: dict[int, tuple[list[str], int]] | None = None
    ) -> list[int]:
        """The exit codes of `start_ranks`."""
        return [self.wait(process) for process in self.start_ranks(arguments, logs, kill or {})]

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()

    def _ask(self, *request: Any) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def lines_run(log: Path) -> dict[str, int]:
    """How many lines of the source files of SAVING and STEPPING a run that was not killed has run."""
    return json.loads(log.with_suffix(".lines").read_text())


def _start(arguments: list[str], log: str, environment: dict[str, str], kill: Any, largest_file: int | None) -> int:
    process = os.fork()
    if process:
        return process
    for descriptor, path in ((0, os.devnull), (1, log), (2, log)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND), descriptor)
    os.environ.update(environment)
    if largest_file is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    code = 1
    try:
        _train(arguments, Path(log), kill)
        code = 0
    except SystemExit as error:
        print(error, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    os._exit(code)


def _train(arguments: list[str], log: Path, kill: tuple[list[str], int] | None) -> None:
    import train

    files, number = kill or ([], 0)
    counts = dict.fromkeys([*SAVING, *STEPPING], 0)

    def at_line(frame: Any, event: str, _: Any) -> Any:
        if event == "line":
            file = frame.f_code.co_filename
            counts[file] += 1
            if file in files and sum(counts[each] for each in files) == number:
                os.kill(os.getpid(), signal.SIGKILL)
        return at_line

    sys.settrace(lambda frame, *_: at_line if frame.f_code.co_filename in counts else None)
    train.main(arguments)
    sys.settrace(None)
    log.with_suffix(".lines").write_text(json.dumps(counts))


def _wait(process: int, seconds: float) -> int | None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return None


def _serve() -> None:
    import torch
    import train
    from spf_data.registry import build_dataset
    from spf_net.config import parse_config

    dataset = build_dataset(parse_config(DATA).data)
    dataset.labels[torch.rand(dataset.labels.shape, generator=torch.Generator().manual_seed(0)) < 0.2] = float("nan")
    train.build_dataset = lambda _: dataset
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps({"start": _start, "wait": _wait}[name](*arguments)), flush=True)


if __name__ == "__main__":
    _serve()
