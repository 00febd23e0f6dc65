"""The paper's tables and figures on data that anybody can have: `python python/reproduce.py --help`.

A finished task is kept in results.json and not run again, so the same command goes on after an interruption.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from spf_data.registry import build_dataset
from spf_net.cached_maps import cached_maps
from spf_net.checkpoint import write_atomically
from spf_net.config import parse_config
from spf_net.experiments import (
    QUICK,
    Plan,
    StudyName,
    Task,
    cache_config,
    data_config,
    methods,
    parts,
    run_task,
    study_maps,
    tasks,
)
from spf_net.extractor import ExtractorConfig, build_extractor
from spf_net.figures import draw_study
from spf_net.fitting import FitConfig, fit_best_rate
from spf_net.head_share import Sizes, share_table, time_extractor, time_heads
from spf_net.paper_cost import cost_table, count_paper_cost
from spf_net.paper_tables import (
    Results,
    all_label_tables,
    code_table,
    label_tables,
    measure_tables,
    method_tables,
    stage_table,
)
from spf_net.result_store import ResultStore
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
PAPER = Path(__file__).parent / "configs" / "paper.yaml"
IMAGE_SIZE = 512


def main(arguments: list[str]) -> None:
    """Run what is missing and write tables and figures; ends with one line where that is not possible."""
    options = _parse(arguments)
    try:
        reproduce(options)
    except (ValueError, OSError, ModuleNotFoundError, FloatingPointError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(f"stopped: the same command goes on with what is missing in {options.output}")


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The paper's tables and figures on data that anybody can have.")
    parser.add_argument("--output", type=Path, help="folder (results/reproduction, runs/reproduction-quick if --quick)")
    parser.add_argument(
        "--cache", type=Path, default=ROOT / "runs" / "cached-maps", help="folder of the maps (%(default)s)"
    )
    parser.add_argument(
        "--cxr-zones", type=Path, metavar="ROOT", help="folder of cxr-zones; without it the phantom alone"
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes of one thread (%(default)s)"
    )
    parser.add_argument("--quick", action="store_true", help="small and meaningless: whether everything runs")
    parser.add_argument("--overwrite", action="store_true", help="start anew, and replace the results in the folder")
    parser.add_argument("--head-share", action="store_true", help="also time heads and extractors at the paper's size")
    parser.add_argument("--paper-step", action="store_true", help="also count and time a step of the paper's network")
    options = parser.parse_args(arguments)
    if options.workers < 1:
        parser.error(f"--workers must be at least 1, got {options.workers}")
    if options.output is None:
        options.output = ROOT / ("runs/reproduction-quick" if options.quick else "results/reproduction")
    return options


def reproduce(options: argparse.Namespace) -> None:
    """All of it.

    Args:
        options: From the command line.
    """
    started = time.perf_counter()
    plan = QUICK if options.quick else Plan()
    root = None if options.cxr_zones is None else options.cxr_zones.resolve()
    studies: tuple[StudyName, ...] = ("phantom",) if root is None else ("phantom", "cxr-zones")
    store = ResultStore(options.output / "results.json", asdict(plan), overwrite=options.overwrite)
    measure_costs(store, options)
    results = run_studies(plan, studies, root, options.cache, store, options.workers)
    draw(plan, root, options.cache, options.output)
    write_tables(results, store, options.output)
    print(f"Written to {options.output} in {(time.perf_counter() - started) / 60:.1f} minutes.")


def run_studies(
    plan: Plan, studies: tuple[StudyName, ...], root: Path | None, cache: Path, store: ResultStore, workers: int
) -> Results:
    """Make the maps, and run the tasks whose results are missing.

    Args:
        plan: Sizes.
        studies: Data sets.
        root: Folder of cxr-zones.
        cache: Folder of the maps.
        store: Where results are kept.
        workers: Processes.
    """
    label_sets, images = {}, {}
    for study in studies:
        dataset = build_dataset(data_config(study, plan, root))
        label_sets[study], images[study] = dataset.label_set, len(dataset)
        print(f"{study}: {len(dataset)} images, {len(dataset.label_set)} labels; left out: {dataset.report or 'none'}")
        cached_maps(dataset, cache_config(plan), cache)
    listed = tasks(plan, studies)
    missing = [task for task in listed if task.key not in store.results]
    with tqdm(total=len(listed), initial=len(listed) - len(missing), unit="task") as bar:
        for task, result in _run(missing, plan, root, cache, workers):
            store.add(task.key, result)
            bar.set_postfix_str(task.key)
            bar.update()
    return Results(plan, store.results, label_sets, images)


def _run(
    missing: list[Task], plan: Plan, root: Path | None, cache: Path, workers: int
) -> Iterator[tuple[Task, dict[str, Any]]]:
    """Each task with its result, as they end. One thread each: results do not depend on `workers`."""
    if workers == 1 or len(missing) < 2:
        for task in missing:
            with one_thread():
                result = run_task(task, plan, root, cache)
            yield task, result
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        waiting = {pool.submit(run_task, task, plan, root, cache): task for task in missing}
        try:
            while waiting:
                for done in wait(waiting, return_when=FIRST_COMPLETED).done:
                    yield waiting.pop(done), done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def one_thread() -> Iterator[None]:
    """Within it the results of torch's operators do not depend on how many cores the machine has."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def measure_costs(store: ResultStore, options: argparse.Namespace) -> None:
    """What `--head-share` and `--paper-step` ask for, as tables kept with the results."""
    measurements: list[tuple[bool, str, Callable[[bool], str]]] = [
        (options.head_share, "cost/head share", _head_share),
        (options.paper_step, "cost/paper step", _paper_step),
    ]
    for wanted, name, measure in measurements:
        if wanted and name not in store.results:
            store.add(name, {"table": measure(options.quick), "threads": torch.get_num_threads()})


def _head_share(quick: bool) -> str:
    size = 64 if quick else IMAGE_SIZE
    sizes = Sizes(4, (8, 8), 4) if quick else Sizes()
    demo = ExtractorConfig()
    paper = replace(parse_config([f"--config={PAPER}"]).extractor, pretrained=False)
    extractors = [time_extractor("small, from scratch", build_extractor(demo, 1, size), size, 2)]
    extractors.append(time_extractor("the paper's", build_extractor(paper, 1, size), size, 1 if quick else 2))
    return share_table(time_heads((2,) if quick else (6, 12), sizes), extractors)


def _paper_step(quick: bool) -> str:
    config = parse_config([f"--config={PAPER}"])
    config = replace(config, extractor=replace(config.extractor, pretrained=False))
    if quick:
        config = replace(config, data=replace(config.data, image_size=64), head=replace(config.head, code_size=4))
    return cost_table(count_paper_cost(config, timed=True, repeats=1 if quick else 2))


def draw(plan: Plan, root: Path | None, cache: Path, output: Path) -> None:
    """The figures, on the phantom: real images may not be passed on."""
    maps = study_maps("phantom", plan, root, cache, plan.stride)
    ((train, validation, test),) = parts(maps.dataset.patients, 0, 1)
    config = FitConfig(plan.projection, epochs=plan.epochs, patience=plan.patience)
    head = methods(plan.code_size, plan.projection)["SPF"]
    with one_thread():
        _, found = fit_best_rate(maps.frames["image"], train, validation, head, config, plan.rates)
    draw_study(maps.dataset, maps.frames["image"], found.network, validation, test, output)


def write_tables(results: Results, store: ResultStore, output: Path) -> None:
    """README.md and labels.md."""
    tables = [*label_tables(results), *method_tables(results), *measure_tables(results)]
    tables += [code_table(results), stage_table(results)]
    labels = "\n\n".join(table.markdown() for table in all_label_tables(results))
    sections = [_introduction(results), *(table.markdown() for table in tables), *_costs(store), _FIGURES]
    write_atomically(output / "README.md", ("\n\n".join(sections) + "\n").encode())
    write_atomically(output / "labels.md", f"# AUROC of every label\n\n{labels}\n".encode())


def _introduction(results: Results) -> str:
    plan = results.plan
    return (
        "# The paper's tables, reproduced on other data\n\n"
        "Made by `python python/reproduce.py`; numbers in [results.json](results.json), what they mean in "
        "[REPRODUCTION.md](../../docs/REPRODUCTION.md). **No number here was made on the paper's data**, so compare "
        "rows with each other, not ours with the paper's.\n\n"
        f"Features: EfficientNet-Lite0 with {'ImageNet' if plan.pretrained else 'random'} weights, frozen, images of "
        f"{plan.image_size}x{plan.image_size}, the stage of stride {plan.stride}. Fitted on them: a 1x1 convolution to "
        f"{plan.projection} maps of {plan.map_side}x{plan.map_side}, the head, a dense layer; NAdam, the learning rate "
        f"among {', '.join(f'{rate:g}' for rate in plan.rates)} by the loss on the validation part, for each split and "
        "head without levers and kept with them; early stopping on the same part. Codes have "
        f"{plan.code_size} numbers."
    )


def _costs(store: ResultStore) -> list[str]:
    titles = {
        "cost/head share": (
            "The head's share of a step and of inference, at the paper's size",
            "128 maps of 64x64, codes of 128, auto-encoders with their loss. Measured on random images and maps, not "
            "on the paper's data; extractors on batches of 2, scaled to the batch.",
        ),
        "cost/paper step": (
            "Hours and memory of an epoch at the paper's size",
            "Counted for 75,613 training images of 512x512 that we do not have; the step is timed on random images.",
        ),
    }
    found = []
    for name, (title, note) in titles.items():
        if name in store.results:
            kept = store.results[name]
            found.append(f"## {title}\n\n{kept['table']}\n\n{note} {kept['threads']} threads.")
    return found


_FIGURES = """## Figures

All on the phantom.

![Figure 1](figure-1.png)

Figure 1. Flattening moves neighbours apart. It loses no number, and a dense layer after it still knows which pixel each
is.

![Figure 2](figure-2.png)

Figure 2. An image, its maps, their codes, and what plain flattening and average pooling make of the same maps.

![Figure 4](figure-4.png)

Figure 4. Predictions on test images with their probabilities; a label is called from the threshold on that is best on
the validation part (Youden's J). The patient's right is on the image's left."""


if __name__ == "__main__":
    main(sys.argv[1:])
