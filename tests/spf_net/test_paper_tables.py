"""The paper's numbers beside ours, and what is run for them."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from spf_data.cxr_zones import LABEL_SET
from spf_data.phantom.catalogue import label_set
from spf_net.experiments import LEVERS, QUICK, Plan, StudyName, methods, parts, tasks
from spf_net.heads import HEADS, build_head
from spf_net.paper_tables import (
    MEASURES,
    PAPER_LABELS,
    Results,
    all_label_tables,
    code_table,
    label_tables,
    measure_tables,
    method_tables,
    spread,
    stage_table,
)

PLAN = replace(Plan(), seeds=2)
LABEL_SETS = {"phantom": label_set(translated=False), "cxr-zones": LABEL_SET}


def made_up(studies: tuple[StudyName, ...]) -> Results:
    """Results in which each seed adds 0.1, and each method 0.01, to the one before."""
    found: dict[str, Any] = {}
    names = list(methods(PLAN.code_size, PLAN.projection))
    for task in tasks(PLAN, studies):
        base = 0.5 + 0.1 * task.seed + (0.01 * names.index(task.variant) if task.variant in names else 0)
        measures = dict.fromkeys(("macro_auroc", "weighted_auroc", *MEASURES), base)
        labels = [base] * len(LABEL_SETS[task.study])
        evaluation = {"all": {**measures, "labels": labels}}
        if task.study == "cxr-zones":
            evaluation["nih-chestxray14"] = {**measures, "macro_auroc": None, "labels": labels}
        run = {"parameters": 1234, "epochs": 7.0, "head_share": 0.25, "evaluation": evaluation}
        found[task.key] = dict.fromkeys(LEVERS if task.kind == "method" else ["neither"], run)
    sets = {study: LABEL_SETS[study] for study in studies}
    return Results(PLAN, found, sets, {"phantom": 1200, "cxr-zones": 350})


def test_every_head_of_the_registry_and_every_start_of_spf_is_compared() -> None:
    heads = methods(16, 64).values()
    assert {head.name for head in heads} == set(HEADS)
    assert {head.init for head in heads if head.name == "spf"} == {"linear", "grid", "dct"}
    assert any(head.frozen for head in heads)
    assert any(head.reconstruction_weight == 0 and not head.frozen for head in heads)
    features = {name: build_head(head, 64, (16, 16)).features for name, head in methods(16, 64).items()}
    for name in ("SPF", "square pooling, projected", "4x4 pooling + flatten", "DCT codes"):
        assert features[name] == 16 * 64, name


def test_tasks_have_names_of_their_own_and_cover_the_plan() -> None:
    listed = tasks(PLAN, ("phantom", "cxr-zones"))
    assert len({task.key for task in listed}) == len(listed)
    assert len(listed) == 2 * (2 * len(methods(16, 64)) + len(PLAN.code_sizes) + len(PLAN.stages))
    assert {task.study for task in tasks(QUICK, ("phantom",))} == {"phantom"}


@pytest.mark.parametrize("folds", [1, 4])
def test_parts_never_share_a_patient(folds: int) -> None:
    patients = np.array([f"p{number % 90}" for number in range(200)])
    split = parts(patients, 0, folds)
    tested = np.concatenate([test for _, _, test in split])
    for of_fold in split:
        names = [set(patients[rows]) for rows in of_fold]
        assert all(len(each) > 0 for each in names)
        assert len(set.union(*names)) == sum(map(len, names)) == 90
    if folds > 1:
        assert sorted(tested) == list(range(200))
    assert any(not np.array_equal(*pair) for pair in zip(split[0], parts(patients, 1, folds)[0], strict=True))
    with pytest.raises(ValueError, match="folds must be at most the 90 patients, got 91"):
        parts(patients, 0, 91)


def test_a_mean_has_the_spread_of_the_seeds() -> None:
    assert spread([0.5, 0.6]) == "0.550 ± 0.071"
    assert spread([0.5, math.nan]) == "0.500"
    assert spread([math.nan]) == "undefined"


def test_the_papers_numbers_stand_beside_ours() -> None:
    results = made_up(("phantom", "cxr-zones"))
    (first,) = label_tables(results)
    assert first.rows[0] == ["elevated right hemidiaphragm", "0.892", "0.550 ± 0.071", "0.797", "0.620 ± 0.071",
                             "0.640 ± 0.071", "0.654"]  # fmt: skip
    assert [row[0] for row in first.rows] == list(PAPER_LABELS)
    macro, *_ = method_tables(results)
    assert macro.rows[0] == ["SPF", "0.81", *["0.550 ± 0.071"] * 4]
    by_method = {row[0]: row for row in macro.rows}
    assert by_method["square pooling"][1] == "0.74"
    assert by_method["plain flatten"][1] == "–"
    assert by_method["detector (DETR)"][1:] == ["0.512", *["not rebuilt"] * 4]
    codes = {row[0]: row[4:] for row in code_table(results).rows}
    assert codes == {"2": ["32", "0.67"], "4": ["64", "0.716"], "8": ["128", "0.81"], "16": ["256", "0.80"],
                     "32": ["–", "–"], "64": ["–", "–"]}  # fmt: skip
    assert [row[1] for row in stage_table(results).rows] == ["16x16", "16x16", "16x16", "8x8"]


def test_every_table_says_what_it_was_made_on() -> None:
    for studies in (("phantom",), ("phantom", "cxr-zones")):
        results = made_up(studies)
        tables = [*label_tables(results), *method_tables(results), *measure_tables(results)]
        tables += [*all_label_tables(results), code_table(results), stage_table(results)]
        for table in tables:
            page = table.markdown()
            assert "**not on the paper's data**" in page, table.title
            assert page.count("Not made on cxr-zones") == (len(studies) == 1), table.title
            assert {len(row) for row in table.rows} == {len(table.header)}, table.title
        titles = [table.title for table in tables]
        assert len(set(titles)) == len(titles)


def test_an_undefined_measure_of_one_source_says_so() -> None:
    tables = {table.title: table for table in method_tables(made_up(("phantom", "cxr-zones")))}
    alone = tables["Table 2: macro AUROC; cxr-zones, nih-chestxray14 alone"]
    assert alone.rows[0] == ["SPF", "0.81", *["undefined"] * 4]
