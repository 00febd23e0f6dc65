import subprocess
from pathlib import Path

import pytest

from bench.files import write_atomically
from bench.gpu import report, tables
from bench.gpu.goals import goals
from bench.gpu.operations import OPERATIONS
from bench.gpu.operations.base import COMPILED
from bench.gpu.plan import plan
from bench.gpu.results import Results, load, slug, to_json
from bench.peers import BADDBMM, LOOP, OURS
from bench.steps import BACKWARD, FORWARD_BACKWARD, STEP

ROOT = Path(__file__).resolve().parents[2]
MACHINE = {"name": "NVIDIA H100 80GB HBM3", "smoke": False, "card": "80 GB", "torch": "2.11.0"}


def _rows(operation, case, ours_is_faster_by):
    spans = {
        "forward": ["forward"],
        "backward": [BACKWARD, FORWARD_BACKWARD],
        "auto-encoder step": [FORWARD_BACKWARD],
        "training step": [STEP],
    }
    head = {"operation": operation, "case": case, "rounds": 9, "bytes": 10, "gb_per_s": 2640.0, "error": 1e-7}
    for span in spans.get(operation, ["kernel"]):
        timed = {**head, "span": span, "median_ms": 0.106, "min_ms": 0.1, "share_of_copy": 0.88}
        yield {**timed, "provider": OURS}
        for provider, ratio in ours_is_faster_by.items():
            yield {**timed, "provider": provider, "median_ms": 0.106 * ratio, "ours_is_faster_by": ratio}


def _results(measured=None):
    """A whole run, or its beginning."""
    planned = [
        {"operation": operation.name, "case": entry.setting.label}
        for entry in plan(smoke=False)
        for operation in OPERATIONS
        if entry.includes(operation.name)
    ]
    ratios = {BADDBMM: 1.5, LOOP: 14.0}
    with_optimizer = {BADDBMM: 4.5, COMPILED: 1.3}
    rows = [
        row
        for item in planned[:measured]
        for row in _rows(
            item["operation"], item["case"], with_optimizer if item["operation"] == "training step" else ratios
        )
    ]
    rows.append(
        {"operation": "forward", "case": planned[0]["case"], "provider": "F.grouped_mm", "left_out": "bf16 only"}
    )
    limits = {
        "copy": {"gb_per_s": 3000.0, "method": "copy_"},
        "bf16 product": {"tflop_per_s": 790.0, "method": "matmul"},
    }
    stages = [
        {"stage": "check", "verdict": "ok", "seconds": 31},
        {"stage": "tests", "verdict": "FAILED (exit 1)", "seconds": 9},
    ]
    host = [{"operation": "forward", "case": "B1", "provider": OURS, "microseconds": 21.0}]
    memory = [{"operation": "forward", "case": "B12", "provider": OURS, "peak_mb": 300.0}]
    return Results(MACHINE, "2026-01-01T00:00:00", limits, {"forward, x": 9.0}, planned, rows, host, memory, stages)


def test_json_gives_back_what_was_written_one_row_a_line(tmp_path):
    results = _results(measured=2)
    write_atomically(tmp_path / "results.json", to_json(results))
    assert load(tmp_path / "results.json") == results
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
    assert sum('"median_ms"' in line for line in to_json(results).splitlines()) == len(results.rows) - 1


def test_the_summary_fits_what_a_remote_caller_sees_and_names_what_is_missing():
    text = tables.summary(_results(), "bench/results/x")
    assert len(text) < 11_500
    assert "more in README.md" in text
    assert "FAILED (exit 1)" in text
    assert tables.NOTHING_MEASURED not in text
    short = _results(measured=2)
    assert f"want of time: {len(short.planned) - 2} of {len(short.planned)}" in tables.summary(short, "x")


def test_the_page_lists_who_was_left_out_and_what_there_was_no_time_for():
    results = _results(measured=2)
    page = tables.page(results, ["shares.png"])
    assert "| forward | F.grouped_mm | bf16 only | 1 | B12-64x64-D128-fp32 |" in page
    missing = next(line for line in page.splitlines() if "| auto-encoder step | all | time:" in line)
    assert "B12-64x64-D128-fp32" in missing
    assert "![shares](shares.png)" in page
    assert "14.00x" in page


def test_slower_than_a_peer_is_said():
    results = _results(measured=1)
    for row in results.rows:
        if row["provider"] == BADDBMM:
            row["ours_is_faster_by"] = 0.9
            row["median_ms"] = 0.095
    assert "Slower than the best peer in 1 of 1 cases." in tables.page(results, [])
    assert "**slower**" in tables.page(results, [])


def test_goals_are_reached_missed_or_not_measured():
    verdicts = {goal.what: goal.verdict for goal in goals(_results())}
    assert set(verdicts.values()) == {"reached"}
    slow = _results()
    for row in slow.rows:
        if row["provider"] == OURS:
            row["share_of_copy"] = 0.5
    verdicts = {goal.what: goal.verdict for goal in goals(slow)}
    assert verdicts["reconstruct bf16, share of the copy rate"] == "**missed**"
    assert verdicts["forward fp32, against the eager loop"] == "reached"
    assert {goal.verdict for goal in goals(Results(machine=MACHINE))} == {"not measured"}


def test_a_rehearsal_has_no_goals_and_says_that_it_measured_nothing():
    results = _results()
    results.machine = {**MACHINE, "smoke": True}
    assert {goal.verdict for goal in goals(results)} == {"not measured"}
    assert tables.NOTHING_MEASURED in tables.page(results, [])
    assert tables.summary(results, "x").endswith(tables.NOTHING_MEASURED)


def test_a_run_that_measured_nothing_still_has_a_report(tmp_path):
    results = Results(stages=[{"stage": "measure", "verdict": "FAILED (exit 1)", "seconds": 3}])
    report.write(results, tmp_path)
    assert "FAILED (exit 1)" in (tmp_path / "README.md").read_text()
    assert tables.NOTHING_MEASURED in (tmp_path / "README.md").read_text()


def test_the_report_has_pictures_where_matplotlib_is(tmp_path):
    pytest.importorskip("matplotlib")
    report.write(_results(measured=12), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "results.json", "main_size.png", "shares.png"}


def test_stages_are_read_as_the_script_writes_them(tmp_path):
    (tmp_path / "stages.tsv").write_text("check\tok\t12\ntests\tleft out: pytest is not installed\t0\n")
    assert report.read_stages(tmp_path / "stages.tsv") == [
        {"stage": "check", "verdict": "ok", "seconds": 12},
        {"stage": "tests", "verdict": "left out: pytest is not installed", "seconds": 0},
    ]


def test_slug_is_a_folder_name():
    assert slug(MACHINE) == "nvidia-h100-80gb-hbm3"


def test_the_script_fails_when_its_stages_do():
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": "/bin/false", "SPF_GPU_SMOKE": "1"}
    run = subprocess.run(
        ["bash", "bench/gpu.sh"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 1
    assert "== check: FAILED (exit 1)" in run.stdout
    assert "== measure: FAILED (exit 1)" in run.stdout
