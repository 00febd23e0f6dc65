"""What a trained network sees in image files: `python python/predict.py --help`."""

import argparse
import csv
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import NamedTuple, TextIO

import torch
from spf_data.manifest import open_atomically
from spf_net.explain.pictures import EvidencePictures
from spf_net.inference import Prediction, Refusal, load_run, predict_files
from tqdm import tqdm

NOTE = "For research only: this is not a medical device, and its output is not a diagnosis."
ALL_READ, SOME_REFUSED, FAILED = 0, 1, 2
_EPILOG = """\
Files may be PNG (8 or 16 bits), JPEG or DICOM; the content decides, not the extension. Folders are searched
recursively, in alphabetical order; names that begin with a dot are left out. @LIST is a text file (UTF-8) with one
file or folder a line. Of a DICOM file no patient field is read; the output names files as they were given. Overlays
are named after the number of the file in the output, from 1, and the label.

Exit codes: 0 every file was read; 1 some files were refused, and the output says why; 2 wrong usage, not one usable
file, or an error, --on-error raise included. The output is written as a whole or not at all."""


class Row(NamedTuple):
    """One file in the output.

    Attributes:
        file: As given.
        status: "ok", or why it was refused.
        probabilities: By the label's name; empty for a file that was refused.
    """

    file: str
    status: str
    probabilities: dict[str, float]


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=f"Probabilities of location-specific labels for frontal chest radiographs.\n{NOTE}",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="folder that train.py has written")
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="file, folder or @LIST")
    parser.add_argument("--output", type=Path, required=True, help="file to write; replaced if it exists")
    parser.add_argument("--format", choices=tuple(WRITERS), help="by default what --output ends with")
    parser.add_argument("--labels", nargs="+", metavar="NAME", help="only these labels, in this order")
    parser.add_argument("--on-error", choices=("skip", "raise"), default="skip", help="about a file that is refused")
    parser.add_argument("--evidence", type=Path, metavar="FOLDER", help="write evidence overlays there, as PNG")
    parser.add_argument("--top", type=int, default=3, help="overlays a file, of its most probable labels (default 3)")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda and so on")
    parser.add_argument("--batch-size", type=int, default=16, help="files at a time (default 16)")
    parser.add_argument("--num-workers", type=int, default=0, help="processes that read files; 0 (default): this one")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Predict as the arguments say, and return the exit code."""
    options = build_parser().parse_args(arguments)
    print(NOTE, file=sys.stderr)
    try:
        return run(options)
    except (FloatingPointError, ImportError, OSError, RuntimeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("stopped: the output is as it was", file=sys.stderr)
    return FAILED


def run(options: argparse.Namespace) -> int:
    """Read, predict and write; the exit code."""
    kind = options.format or options.output.suffix.removeprefix(".")
    if kind not in WRITERS:
        raise ValueError(f"output must end with .csv or .json where --format does not say which, got {options.output}")
    check_device(options.device)
    inputs = read_lists(options.inputs)
    paths = list_files(inputs)
    check_targets([options.output, *([options.evidence] if options.evidence else [])], inputs, paths)
    trained = load_run(options.run)
    names = options.labels or list(trained.label_set.names)
    labels = [trained.label_set.index(name) for name in names]
    predictions = predict_files(trained, paths, options.batch_size, options.device, options.num_workers)
    if options.evidence:
        pictures = EvidencePictures(trained, labels, options.top, options.evidence, options.device)
        predictions = pictures.drawn(predictions)
    counts: Counter[str] = Counter()
    with replacing(options.output) as opened:
        bar = tqdm(predictions, "files", len(paths), unit="file")
        WRITERS[kind](opened, names, to_rows(bar, names, labels, options.on_error, counts))
    print(summary(counts, len(paths)), file=sys.stderr)
    if counts["ok"] == len(paths):
        return ALL_READ
    return SOME_REFUSED if counts["ok"] else FAILED


def to_rows(
    predictions: Iterable[Prediction | Refusal],
    names: list[str],
    labels: list[int],
    on_error: str,
    counts: Counter[str],
) -> Iterator[Row]:
    """One row a file; `counts` gets how many there are of each status, and of the used ones with an unstated view."""
    for prediction in predictions:
        if isinstance(prediction, Refusal):
            if on_error == "raise":
                raise prediction.error
            row = Row(prediction.path, prediction.error.reason, {})
        else:
            chosen = prediction.probabilities[labels].tolist()
            row = Row(prediction.path, "ok", {name: round(value, 6) for name, value in zip(names, chosen, strict=True)})
            counts["unstated view"] += not prediction.view
        counts[row.status] += 1
        yield row


def summary(counts: Counter[str], files: int) -> str:
    """How many files were read and refused, and why."""
    refused = {status: count for status, count in counts.items() if status not in ("ok", "unstated view")}
    text = f"{files} files: {counts['ok']} read"
    if refused:
        text += f", {sum(refused.values())} refused ("
        text += ", ".join(f"{count} {reason}" for reason, count in sorted(refused.items())) + ")"
    if counts["unstated view"]:
        text += f"; {counts['unstated view']} do not state their view and were taken for frontal"
    return text


def write_csv(opened: TextIO, names: list[str], rows: Iterable[Row]) -> None:
    """Columns: file, status, and one a label, empty for a file that was refused."""
    writer = csv.writer(opened)
    writer.writerow(["file", "status", *names])
    for row in rows:
        writer.writerow([row.file, row.status, *(row.probabilities.get(name, "") for name in names)])


def write_json(opened: TextIO, names: list[str], rows: Iterable[Row]) -> None:
    """{"labels": [...], "files": [{"file": ..., "status": ..., "probabilities": {...}}, ...]}, a line a file."""
    opened.write(f'{{"labels": {json.dumps(names)}, "files": [')
    for number, row in enumerate(rows):
        opened.write((",\n" if number else "\n") + json.dumps(row._asdict()))
    opened.write("\n]}\n")


WRITERS: dict[str, Callable[[TextIO, list[str], Iterable[Row]], None]] = {"csv": write_csv, "json": write_json}


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """A text file that takes the place of `path` once it is complete; of a failed one nothing is left."""
    with open_atomically(path) as raw:
        # Names that are not UTF-8 come out as the bytes they are.
        opened = TextIOWrapper(raw, newline="", encoding="utf-8", errors="surrogateescape")
        yield opened
        # Flushes, and leaves the file open for `open_atomically`.
        opened.detach()


def check_device(name: str) -> None:
    """Raise ValueError if there is no such device."""
    try:
        torch.zeros(1, device=name)
    # What torch raises depends on whether it was built for the device, and on the driver.
    except (AssertionError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"device {name!r} can not be used: {str(error).splitlines()[0]}") from error


def read_lists(inputs: Sequence[str]) -> list[str]:
    """The inputs, each @LIST replaced by the lines of its file."""
    expanded = []
    for given in inputs:
        if given.startswith("@"):
            expanded += _lines(Path(given[1:]))
        else:
            expanded.append(given)
    return expanded


def _lines(path: Path) -> list[str]:
    try:
        # With or without a byte order mark, and with any end of line; other separators may be part of a name.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be a list in UTF-8") from error
    return [line for line in lines if line.strip()]


def list_files(inputs: Sequence[str]) -> list[str]:
    """Files as given, and all files below folders, sorted, without hidden ones.

    Raises:
        OSError: If a folder can not be read.
        ValueError: If there are none.
    """
    paths: list[str] = []
    for given in inputs:
        if Path(given).is_dir():
            paths += _files_below(given)
        else:
            paths.append(given)
    if not paths:
        raise ValueError(f"there is no file in {', '.join(inputs) or 'the list'}")
    return paths


def _files_below(root: str) -> Iterator[str]:
    def fail(error: OSError) -> None:
        raise error

    # Unasked, walk leaves out folders that it can not read.
    for folder, subfolders, names in os.walk(root, onerror=fail):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield from (str(Path(folder, name)) for name in sorted(names) if not name.startswith("."))


def check_targets(targets: Sequence[Path], inputs: Sequence[str], paths: Sequence[str]) -> None:
    """Refuse to write over an input, or where the next call would find the result among its inputs.

    Raises:
        ValueError: If a target is one of the files, or lies in one of the folders, that are read.
    """
    folders = [Path(given).resolve() for given in inputs if Path(given).is_dir()]
    for target in targets:
        resolved = target.resolve()
        if any(resolved.is_relative_to(folder) for folder in folders):
            raise ValueError(f"{target} must lie outside of the folders that are read")
        if any(Path(path).name == target.name and Path(path).resolve() == resolved for path in paths):
            raise ValueError(f"{target} is one of the files that are read")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
