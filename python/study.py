"""Where does SPF win? Heads compared on the phantom and on cxr-zones: `python python/study.py --help`."""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spf_data.cxr_zones import CxrZonesDataset
from spf_net.checkpoint import write_atomically
from spf_net.report import dump
from spf_net.study import cxr_zones, phantom, plots, zone_results
from spf_net.study.page import page
from spf_net.study.store import Store

PHANTOM, ZONES = "phantom", "cxr-zones"


def main(arguments: list[str]) -> None:
    """Run the parts that the arguments name; ends with one line where that is not possible."""
    parser = argparse.ArgumentParser(description="Compare heads on cached maps; goes on where it was stopped.")
    parser.add_argument("--only", choices=(PHANTOM, ZONES), help="one part (default: both)")
    parser.add_argument("--quick", action="store_true", help="a few small fits that show that everything runs")
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data/cxr-zones"), help="folder of cxr-zones (default: %(default)s)"
    )
    parser.add_argument("--work", type=Path, default=Path("runs/study"), help="maps and fits (default: %(default)s)")
    parser.add_argument("--output", type=Path, help="results (default: results/study; quick: WORK/quick)")
    options = parser.parse_args(arguments)
    output = options.output or (options.work / "quick" if options.quick else Path("results/study"))
    try:
        run_study(options.only, options.quick, options.data, options.work, output)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        sys.exit(f"error: {error}")


def run_study(only: str | None, quick: bool, data: Path, work: Path, output: Path) -> None:
    """Run parts of the study, and write results, pictures and tables of all parts that there are.

    Two processes can run the two parts at the same time: each writes files of its own, and the page is made of what
    is there when a part ends.

    Args:
        only: "phantom", "cxr-zones", or both.
        quick: Whether a few small fits are enough.
        data: Folder of cxr-zones.
        work: Folder of cached maps and finished fits.
        output: Folder of the results.

    Raises:
        FileNotFoundError: If cxr-zones is asked for and not there.
        OSError: If something can not be written.
    """
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        PHANTOM: lambda: phantom.run(phantom.QUICK if quick else phantom.PhantomStudy(), work / "maps", _store(work)),
        ZONES: lambda: _zones(cxr_zones.QUICK if quick else cxr_zones.ZoneStudy(), data, work),
    }
    for name, part in parts.items():
        if only in (None, name):
            started = time.perf_counter()
            found = part()
            write_atomically(output / f"{name}.json", dump(found))
            print(f"{name}: {(time.perf_counter() - started) / 60:.1f} minutes", flush=True)
    write_page(output, "python python/study.py" + (" --quick" if quick else ""))


def write_page(output: Path, command: str) -> None:
    """Draw pictures and write tables of the results in a folder."""
    found = {name: _read(output / f"{name}.json") for name in (PHANTOM, ZONES)}
    if (results := found[PHANTOM]) is not None:
        plots.plot_phantom(results, output / "phantom.png")
    if (results := found[ZONES]) is not None:
        plots.plot_zones(results, output / "cxr-zones.png")
        plots.plot_differences(results, output / "differences.png")
    write_atomically(output / "README.md", page(found[PHANTOM], found[ZONES], command).encode())
    print(f"Written to {output}.")


def _zones(study: cxr_zones.ZoneStudy, data: Path, work: Path) -> dict[str, Any]:
    dataset = CxrZonesDataset(data, study.image_size, "skip", require_labels=False)
    return zone_results.results(dataset, study, cxr_zones.run(dataset, study, work / "maps", _store(work)))


def _store(work: Path) -> Store:
    return Store(work / "fits")


def _read(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text())
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
