"""The comparison with human codes: its arithmetic, and that the labeller keeps what it was measured to reach."""

import importlib.util

import pytest
from labels_check import (
    GOALS,
    Labelled,
    compare,
    error_kinds,
    is_held_out,
    main,
    region_pairs,
    side_pairs,
    strict_side_pairs,
)
from spf_data.findings import Finding
from spf_data.vocabulary import load_vocabulary


def found(core: str, side: str = "", anatomy: tuple[str, ...] = (), polarity: str = "yes") -> Finding:
    return Finding("finding", polarity, core, anatomy, side)


def test_bilateral_is_both_sides_and_a_side_beats_none():
    findings = [found("opacity", "bilateral"), found("opacity"), found("scar")]
    assert side_pairs(findings) == {("opacity", "left"), ("opacity", "right"), ("scar", "")}
    assert strict_side_pairs(findings) == {("opacity", "bilateral"), ("opacity", ""), ("scar", "")}


def test_regions_are_coarser_than_places_and_the_lung_is_none():
    findings = [found("opacity", anatomy=("mid zone",)), found("nodule", anatomy=("lung",)), found("scar")]
    assert region_pairs(findings, load_vocabulary()) == {("opacity", "middle lobe"), ("nodule", ""), ("scar", "")}


def test_scores_count_reports():
    pair = ("opacity", "left")
    has, has_not = [found(*pair)], [found("opacity", "right")]
    reports = [
        Labelled("a", has, has, has),
        Labelled("b", has, has_not, has_not),
        Labelled("c", has_not, has, has),
        Labelled("d", has, [], [found("opacity", polarity="no")]),
        Labelled("e", has, [], []),
    ]
    score = compare(reports, side_pairs, {pair})[pair]
    assert (score.both, score.only_labeller, score.only_codes) == (["a"], ["c"], ["b", "d", "e"])
    assert score.f1 == pytest.approx(2 / (2 + 1 + 3))
    assert error_kinds(reports, {pair: score}) == {
        "missed: read with another place": ["b: opacity"],
        "missed: read as absent": ["d: opacity"],
        "missed: not found in the text": ["e: opacity"],
        "extra: coded with another place": ["c: opacity"],
    }


def test_the_halves_are_fixed():
    halves = [is_held_out(f"CXR{number}") for number in range(1, 9)]
    assert halves == [True, True, False, False, False, False, True, True]


@pytest.mark.skipif(importlib.util.find_spec("torchxrayvision") is None, reason="torchxrayvision is not installed")
def test_goals_are_reached_on_the_held_out_half(capsys):
    main([])
    printed = capsys.readouterr().out
    for name, goal in GOALS.items():
        line = next(line for line in printed.splitlines() if line.startswith(f"finding + {name}, held-out half"))
        assert float(line.split("micro F1 ")[1].split()[0]) >= goal
    assert printed.startswith("3955 reports (none dropped)")
