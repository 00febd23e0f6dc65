"""The script, from nothing to tables and figures, and what it keeps."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import reproduce
import torch
from spf_net.experiments import QUICK, Task, methods, tasks
from spf_net.extractor import ExtractorConfig, build_extractor
from spf_net.head_share import LoopAutoencoder, Sizes, Timing, share_table, time_extractor, time_heads
from spf_net.paper_cost import PaperCost, cost_table
from spf_net.result_store import ResultStore

from spf_kernels import SPFAutoencoder

CXR_ZONES = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "cxr-zones"
TINY = replace(
    QUICK, image_size=64, stride=8, stages=(8,), code_sizes=(2,), code_size=4, projection=4, seeds=1, epochs=1
)  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def run(output: Path, cache: Path, *arguments: str) -> None:
    reproduce.main(["--quick", "--workers=1", f"--output={output}", f"--cache={cache}", *arguments])


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduce, "QUICK", TINY)


@pytest.mark.usefixtures("tiny")
def test_an_interrupted_reproduction_goes_on(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    run_task = reproduce.run_task

    def counted(task: Task, *arguments: Any) -> dict[str, Any]:
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(task.key)
        return run_task(task, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(reproduce, "run_task", counted)
        with pytest.raises(SystemExit, match=r"^stopped: the same command goes on"):
            run(tmp_path, cache)
    before = json.loads((tmp_path / "results.json").read_text())["results"]
    assert list(before) == sorted(done)

    run(tmp_path, cache)
    results = json.loads((tmp_path / "results.json").read_text())["results"]
    listed = {task.key: task for task in tasks(TINY, ("phantom",))}
    assert set(results) == set(listed)
    # Not run again: the very times are those of the first run.
    assert {key: results[key] for key in before} == before
    for key in (done[0], "phantom/code/2/0"):
        again = run_task(listed[key], TINY, None, cache)
        for lever, found in results[key].items():
            assert again[lever]["evaluation"] == found["evaluation"]
    evaluation = results[done[0]]["neither"]["evaluation"]["all"]
    assert 0 <= evaluation["macro_auroc"] <= 1
    assert len(evaluation["labels"]) == 57

    readme = (tmp_path / "README.md").read_text()
    for method in methods(4, 4):
        assert f"| {method} " in readme
    assert "Not made on cxr-zones" in readme
    for name in ("figure-1.png", "figure-2.png", "figure-4.png", "labels.md"):
        assert f"({name})" in readme
        assert (tmp_path / name).stat().st_size > 1000


@pytest.mark.usefixtures("tiny")
def test_other_settings_are_refused_and_replaced_on_request(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ResultStore(tmp_path / "results.json", {"images": 1})
    store.add("a", {"value": 1.5})
    with pytest.raises(SystemExit, match=r"^error: .* holds results of other settings \(code_size, "):
        run(tmp_path, cache)
    monkeypatch.setattr(reproduce, "tasks", lambda *_: [])
    monkeypatch.setattr(reproduce, "draw", lambda *_: None)
    monkeypatch.setattr(reproduce, "write_tables", lambda *_: None)
    run(tmp_path, cache, "--overwrite", "--head-share", "--paper-step")
    results = json.loads((tmp_path / "results.json").read_text())["results"]
    assert set(results) == {"cost/head share", "cost/paper step"}
    assert results["cost/head share"]["table"].count("spf_kernels") == 2
    assert "measured" in results["cost/paper step"]["table"]


def test_results_do_not_depend_on_the_number_of_processes(cache: Path) -> None:
    listed = [task for task in tasks(TINY, ("phantom",)) if task.kind != "method"]
    one, two = (dict(reproduce._run(listed, TINY, None, cache, workers)) for workers in (1, 2))
    assert set(one) == set(two) == set(listed)
    for task in listed:
        assert one[task]["neither"]["evaluation"] == two[task]["neither"]["evaluation"]


@pytest.mark.skipif(not CXR_ZONES.is_dir(), reason="../shared/data/cxr-zones is not there")
def test_cxr_zones_is_cross_validated_and_reported_by_source(cache: Path) -> None:
    listed = [task for task in tasks(TINY, ("cxr-zones",)) if task.variant == "square pooling"]
    (result,) = (found for _, found in reproduce._run(listed, TINY, CXR_ZONES, cache, 1))
    assert set(result) == {"neither", "flips", "lung frame", "both"}
    for found in result.values():
        evaluation = found["evaluation"]
        assert evaluation["all"]["images"] == 350
        assert evaluation["nih-chestxray14"]["images"] + evaluation["cohen-covid"]["images"] == 350
        assert len(evaluation["all"]["labels"]) == 6
    assert result["neither"]["evaluation"] != result["lung frame"]["evaluation"]


def test_a_store_keeps_results_and_refuses_what_is_none(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    settings = {"sizes": (1, 2)}
    store = ResultStore(path, settings)
    assert not path.exists()
    store.add("b", {"value": None})
    store.add("a", {"value": 0.25})
    assert ResultStore(path, settings).results == {"a": {"value": 0.25}, "b": {"value": None}}
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.add("c", {"value": float("nan")})
    assert set(ResultStore(path, settings).results) == {"a", "b"}
    path.write_text("[]")
    with pytest.raises(ValueError, match="must hold settings and results of a study"):
        ResultStore(path, settings)


def test_the_loop_computes_what_the_kernels_do() -> None:
    sizes = Sizes(3, (4, 5), 2)
    loop = LoopAutoencoder(sizes)
    ours = SPFAutoencoder.from_linears(list(loop.encoders), list(loop.decoders), activation="relu", map_size=(4, 5))
    maps = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    codes, loss = loop(maps)
    expected = ours(maps)
    torch.testing.assert_close(codes, expected.codes)
    torch.testing.assert_close(loss, expected.loss)
    assert torch.equal(loop.encode(maps), codes)


def test_a_share_is_that_of_the_whole_step() -> None:
    table = share_table([Timing("ours", 6, 1.0, 0.5)], [Timing("small", 2, 1.0, 0.5)])
    cells = [cell.strip() for cell in table.splitlines()[2].split("|")[1:-1]]
    # The extractor's two images took a second, so six take three.
    assert cells == ["small", "ours", "6", "3.00", "1.000", "25.0%", "1.50", "0.5000", "25.0%"]
    timings = time_heads([2], Sizes(2, (4, 4), 2), repeats=1)
    assert [timing.name for timing in timings] == ["loop of nn.Linear", "spf_kernels"]
    config = ExtractorConfig(widths=(4,), num_maps=2, downsample=8, norm_groups=1)
    timings.append(time_extractor("tiny", build_extractor(config, 1, 16), 16, 1, repeats=1))
    assert all(timing.step > 0 and timing.inference > 0 for timing in timings)


def test_costs_follow_from_counts() -> None:
    cost = PaperCost(10**6, 2 * 10**6, 10**11, 10**9, 10**9, 2 * 10**9, seconds=4.0, step_images=2)
    assert cost.epoch_flops == 3 * 101 * 10**9 * 75_613
    assert cost.card_bytes == 16 * 10**6 + 6 * 10**9 + 2 * 10**9
    table = cost_table(cost)
    assert f"| {75_613 * 2 / 3600:.0f} " in table
    assert "not timed" in cost_table(replace(cost, seconds=None))
