"""Images a second that reach the training: decoded each epoch by torchvision's plain loader, or from the cache.

`python -m bench.loading` makes some radiograph-like images, loads them in each way, and writes `results/loading.md`:
some minutes, 2 GB of the temporary folder. `--zones ../shared/data/cxr-zones` loads real ones as well.
"""

import argparse
import multiprocessing
import os
import platform
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torchvision
from PIL import Image
from spf_data.image_cache import available_cpus, cache_images
from spf_data.manifest import BASE_SCHEMA, LABEL_PREFIX, Manifest, write_manifest
from spf_data.manifest_dataset import Selection, open_manifest_dataset
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

from bench.files import write_atomically
from bench.machine import cpu_model

RESULTS = Path(__file__).resolve().parent / "results" / "loading.md"
OURS, CACHING = "ours, from the cache", "caching, once"
_BATCH = 8
# Of ours at least; a pass over a few cached images would be too short to be timed.
_LEAST_IMAGES = 2000


@dataclass(frozen=True)
class Case:
    """Some images.

    Attributes:
        name: What they are.
        root: Folder whose folder `images` holds them.
        size: Pixels a side that they are loaded at.
    """

    name: str
    root: Path
    size: int

    @property
    def files(self) -> list[str]:
        """Paths relative to the root."""
        return sorted(path.relative_to(self.root).as_posix() for path in (self.root / "images").iterdir())


@dataclass(frozen=True)
class Measured:
    """One way of loading.

    Attributes:
        rates: Images a second, by number of workers, one a round.
        worker_mb: The most memory that a worker had for itself, in MB (1e6 bytes); None without workers.
    """

    rates: dict[int, list[float]]
    worker_mb: float | None


def pillow(path: str) -> torch.Tensor:
    """float32 (1, H, W)."""
    with Image.open(path) as opened:
        levels = np.asarray(opened if opened.mode.startswith("I") else opened.convert("L"))
    return torch.from_numpy(levels.astype(np.float32) / (65535 if levels.dtype != np.uint8 else 255))[None]


def pillow_resized(size: int) -> Callable[[str], Any]:
    """Pillow's own resize, on bytes; JPEG is decoded at an eighth, quarter or half where that is enough."""

    def load(path: str) -> torch.Tensor:
        with Image.open(path) as opened:
            opened.draft("L", (size, size))
            grey = opened.convert("F") if opened.mode.startswith("I") else opened.convert("L")
            levels = np.asarray(grey.resize((size, size), Image.Resampling.BILINEAR))
        return torch.from_numpy(levels.astype(np.float32) / (65535 if levels.dtype != np.uint8 else 255))[None]

    return load


def torchvision_io(path: str) -> torch.Tensor:
    """float32 (1, H, W)."""
    levels = decode_image(path, ImageReadMode.UNCHANGED if path.endswith(".png") else ImageReadMode.GRAY)
    image: torch.Tensor = levels.float() / (65535 if levels.dtype == torch.uint16 else 255)
    return image


def rivals(size: int) -> dict[str, tuple[Callable[[str], Any], Callable[[Any], Any] | None]]:
    """Loader and transform of an ImageFolder, by name."""
    resize = v2.Resize((size, size), antialias=True)
    return {
        "ImageFolder: Pillow, v2.Resize": (pillow, resize),
        "ImageFolder: Pillow decodes and resizes": (pillow_resized(size), None),
        "ImageFolder: torchvision.io, v2.Resize": (torchvision_io, resize),
    }


def manifest_of(case: Case) -> Manifest:
    """A manifest of the images, with one label."""
    rows = len(case.files)
    texts = {"patient": [f"bench:{row}" for row in range(rows)], "view": ["PA"] * rows, "split": ["train"] * rows}
    same = {"study": [""] * rows, "source": ["bench"] * rows, "complete": [True] * rows, "sex": [""] * rows}
    table = pa.Table.from_pydict({"image": case.files, "age": [None] * rows, **texts, **same}, BASE_SCHEMA)
    return Manifest(table.append_column(LABEL_PREFIX + "nodule", pa.array([1] * rows, pa.int8())), {})


def synthetic(folder: Path, kind: str, side: int, images: int) -> Path:
    """Noise on a smooth field, which compresses about as radiographs do: 16-bit PNG or 8-bit JPEG.

    Returns:
        A root whose folder `images` holds them.
    """
    random = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    for number in range(images):
        coarse = Image.fromarray(random.random((8, 8), dtype=np.float32))
        field = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))
        noisy = (field + random.normal(0, 0.004, field.shape)).clip(0, 1)
        if kind == "png":
            # 12 bits of a detector
            Image.fromarray((noisy * 4095).astype(np.uint16)).save(folder / "images" / f"{number}.png")
        else:
            Image.fromarray((noisy * 255).astype(np.uint8)).save(folder / "images" / f"{number}.jpg", quality=90)
    return folder


def _private_mb(process: int) -> float:
    """What a process shares with no other."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty")) * 1024 / 1e6


def _pass(batches: Iterable[Any]) -> float | None:
    """Load everything; the most that a worker had for itself."""
    most = None
    for _ in batches:
        for child in multiprocessing.active_children():
            most = max(most or 0.0, _private_mb(child.pid or 0))
    return most


def _rate(loader: DataLoader[Any], images: int) -> float:
    started = perf_counter()
    for _ in loader:
        pass
    return images / (perf_counter() - started)


def _loaders(case: Case, folder: Path, workers: int) -> Iterator[tuple[str, DataLoader[Any], int]]:
    """Name, loader and images a pass of each way; one at a time, so that no workers but its own are there."""
    options: dict[str, Any] = {"batch_size": _BATCH, "num_workers": workers, "persistent_workers": workers > 0}
    for name, (load, transform) in rivals(case.size).items():
        dataset = ImageFolder(str(folder / "plain"), transform, loader=load)
        yield name, DataLoader(dataset, shuffle=True, **options), len(dataset)
    ours = open_manifest_dataset(folder / "manifest.parquet", folder / "cache", case.size, Selection())
    rows = np.random.default_rng(0).permutation(np.tile(np.arange(len(ours)), -(-_LEAST_IMAGES // len(ours)))).tolist()
    yield OURS, DataLoader(ours, sampler=rows, **options), len(rows)


def _caching_rate(case: Case, folder: Path, manifest: Manifest, workers: int) -> float:
    with tempfile.TemporaryDirectory(dir=folder) as fresh:
        started = perf_counter()
        cache_images(Path(fresh) / "cache", manifest, case.root, case.size, workers=workers, progress=False)
        return len(manifest) / (perf_counter() - started)


def measure(case: Case, folder: Path, workers: tuple[int, ...], rounds: int) -> dict[str, Measured]:
    """Load the images in every way, round after round.

    Args:
        case: The images.
        folder: For the cache.
        workers: Numbers of worker processes, 0 for none.
        rounds: How often; the first pass of each loader, which starts its workers, is not timed.

    Returns:
        By way.
    """
    # ImageFolder takes every folder for a class, and a root can hold others.
    (folder / "plain").mkdir()
    (folder / "plain" / "images").symlink_to((case.root / "images").resolve())
    manifest = manifest_of(case)
    write_manifest(folder / "manifest.parquet", manifest)
    cache_images(folder / "cache", manifest, case.root, case.size, progress=False)
    rates: dict[str, dict[int, list[float]]] = {}
    memory: dict[str, float] = {}
    for _ in range(rounds):
        for number in workers:
            for name, loader, images in _loaders(case, folder, number):
                most = _pass(loader)
                if most is not None:
                    memory[name] = max(memory.get(name, 0.0), most)
                rates.setdefault(name, {}).setdefault(number, []).append(_rate(loader, images))
            caching = _caching_rate(case, folder, manifest, number)
            rates.setdefault(CACHING, {}).setdefault(number, []).append(caching)
    return {name: Measured(found, memory.get(name)) for name, found in rates.items()}


_NOTES = """Images a second, float32 tensors in batches of 8, shuffled: medians of {rounds} rounds, all ways in turn.
Files and cache are in the system's memory: no disk is measured. A worker's first pass, which starts it, is not timed;
that of caching is. *worker MB*: the most memory that a worker had for itself, above what it shares with its parent (1e6
bytes); a part of it are the batches that it has ready.

torchvision's ImageFolder decodes in every epoch, in three forms; 16-bit PNG needs a loader of one's own, which all
three have. Where Pillow resizes itself, JPEG is decoded at a reduced size if that is enough. Caching also pads, resizes
with Lanczos' filter on floats, checks each file, and brings the result to the disk.
"""
# multiply-adds of one forward pass at 224x224, by torchvision's tables
_BACKBONES = {"VGG16": 15.47e9, "ResNet50": 4.09e9}
_PEAK = 989e12


def appetite(size: int = 512) -> str:
    """What a GPU could take at the paper's size: its operations over the card's peak; computed."""
    forward = sum(_BACKBONES.values()) * 2 * (size / 224) ** 2
    # backward: gradients of inputs and of weights
    training = 3 * forward
    most = _PEAK / training
    paper, largest = (images * size**2 / 1e9 for images in (107_169, 370_000))
    return f"""**What a GPU eats** (computed, not measured): {" and ".join(_BACKBONES)} alone are {training / 1e9:.0f}
GFLOP of training for an image of {size}x{size}. An H100 at its peak of {_PEAK / 1e12:.0f} TFLOP/s in bf16, which no
training reaches, takes {most:.0f} images/s, {most * size**2 / 1e6:.0f} MB/s from the cache; at 40 % of its peak
{0.4 * most:.0f} images/s. The cache of the paper's 107,169 images has {paper:.0f} GB, that of 370,000 {largest:.0f} GB.
"""


def table(measured: dict[str, Measured]) -> str:
    """One case as Markdown, with each way's best rate over the best of the rivals'."""
    best = {name: max(median(rates) for rates in found.rates.values()) for name, found in measured.items()}
    plain = max(rate for name, rate in best.items() if name not in (OURS, CACHING))
    workers = list(next(iter(measured.values())).rates)
    lines = [["way", *(f"{number} workers" for number in workers), "of the best ImageFolder", "worker MB"]]
    lines.append(["---"] * len(lines[0]))
    for name, found in measured.items():
        label = f"**{name}**" if name == OURS else name
        memory = "–" if found.worker_mb is None else f"{found.worker_mb:.0f}"
        rates = [f"{median(found.rates[number]):.4g}" for number in workers]
        lines.append([label, *rates, f"{best[name] / plain:.2f}x", memory])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def page(measured: dict[str, dict[str, Measured]], rounds: int) -> str:
    """The results as Markdown, by case."""
    machine = (
        f"{cpu_model()}, {available_cpus()} cores, {platform.system()}; Python {platform.python_version()}, torch "
        f"{torch.__version__}, torchvision {torchvision.__version__}; load average at the end {os.getloadavg()[0]:.1f}"
    )
    parts = ["# Loading\n", f"Written by `python -m bench.loading` on {machine}.\n", _NOTES.format(rounds=rounds)]
    parts += [appetite()]
    for name, found in measured.items():
        parts += [f"## {name}\n", table(found)]
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--zones", type=Path, help="root of cxr-zones")
    parser.add_argument("--images", type=int, default=24, help="of each synthetic case")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    measured = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        png = synthetic(folder / "png", "png", 2048, options.images)
        jpeg = synthetic(folder / "jpg", "jpg", 1024, options.images)
        cases = [
            Case("Synthetic 16-bit PNG, 2048x2048, to 512x512", png, 512),
            Case("Synthetic JPEG, 1024x1024, to 512x512", jpeg, 512),
        ]
        if options.zones is not None:
            cases.append(Case("Real radiographs (cxr-zones), JPEG, 256x256, to 224x224", options.zones, 224))
        for number, case in enumerate(cases):
            work = folder / str(number)
            work.mkdir()
            measured[case.name] = measure(case, work, (0, available_cpus()), options.rounds)
            print(f"{case.name}\n\n{table(measured[case.name])}", flush=True)
    write_atomically(options.output, page(measured, options.rounds))


if __name__ == "__main__":
    main()
