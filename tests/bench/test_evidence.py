import pytest
import torch

from bench.evidence import __main__ as script
from bench.evidence import timing
from bench.evidence.timing import OURS, Sizes, measure

SMALL = Sizes(3, num_maps=4, side=8, code_size=8, labels=5, window=4)


def test_every_explanation_is_timed_and_hirescam_is_the_evidence():
    timings = measure(SMALL, rounds=2)
    assert len(timings) == 9
    assert timings[OURS].ours_is_faster_by == 1
    for name, found in timings.items():
        assert 0 < found.least <= found.seconds
        assert (found.error is not None) == name.startswith("HiResCAM")
        assert found.error is None or found.error < 1e-5


def test_a_rival_that_computes_something_else_is_an_error(monkeypatch):
    monkeypatch.setattr(timing, "hirescam", lambda *_, **__: torch.zeros(3, 5, 8, 8))
    with pytest.raises(ValueError, match=r"HiResCAM, a backward a label must be the evidence, got .* of 1"):
        measure(SMALL, rounds=1)


def test_a_quick_run_writes_the_whole_page():
    text = script.run(quick=True)
    assert text.startswith("# Evidence beside other explanations\n")
    assert "### 2 images, 4 maps of 8x8, ReLU codes of 8, 5 labels" in text
    for part in text.split("\n### ")[2:]:
        rows = {line.split(" | ")[0]: line.split(" | ")[1:] for line in part.splitlines() if line.startswith("| ")}
        # both are the same explanation, and no other one lowers the logit sooner
        assert rows["| **evidence**"] == rows["| HiResCAM"]
        areas = {name: float(cells[2].rstrip("| ")) for name, cells in rows.items() if "." in cells[-1]}
        assert len(areas) == 6
        assert areas["| **evidence**"] == min(areas.values())
