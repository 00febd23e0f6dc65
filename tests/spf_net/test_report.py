"""Tables and JSON say what is not defined and why training ended."""

import json

import numpy as np
from spf_data.labels import Label, LabelSet
from spf_net.evaluation import Estimate, Evaluation, evaluate
from spf_net.history import StopReason
from spf_net.report import (
    comparison_table,
    dump,
    evaluation_table,
    format_estimate,
    markdown_table,
    to_json,
    training_line,
)
from spf_net.training import TrainingResult

LABELS = LabelSet((Label("right cavity", "cavity", "right"), Label("left cavity", "cavity", "left")))


def result(stopped_by: StopReason) -> TrainingResult:
    return TrainingResult(np.arange(4), np.zeros((4, 2), np.float32), 12, 9, stopped_by, 0.0123, 45.6, 12345)


def evaluation(thresholds: np.ndarray | None = None) -> Evaluation:
    labels = np.array([[1, 0], [0, 0], [1, 0], [0, 0]])
    scores = np.array([[2, 0], [1, 0], [0, 1], [0, 0]])
    return evaluate(scores, labels, LABELS, np.array(list("abcd")), thresholds=thresholds)


def test_columns_are_aligned() -> None:
    table = markdown_table(["head", "x"], [["spf", "1"], ["average_pooling", "22"]]).splitlines()
    assert len({len(line) for line in table}) == 1
    assert table[2] == "| spf             | 1  |"


def test_undefined_is_said() -> None:
    assert format_estimate(Estimate(float("nan"), float("nan"), float("nan"))) == "undefined"
    assert format_estimate(Estimate(0.8123, 0.79, 0.8349)) == "0.812 (0.790–0.835)"


def test_the_table_says_how_many_labels_were_averaged() -> None:
    table = evaluation_table({"all": evaluation()})
    assert "1 of 2" in table
    assert "undefined" in table
    assert "0.625" in table


def test_the_wrong_side_rate_has_a_column_where_there_are_operating_points() -> None:
    assert "wrong side rate" not in evaluation_table({"all": evaluation()})
    assert "wrong side rate" in evaluation_table({"all": evaluation(np.array([0.5, 0.5]))})


def test_an_unfinished_training_is_marked_and_explained() -> None:
    table = comparison_table({"spf": (result("time"), evaluation()), "other": (result("patience"), evaluation())})
    assert "| 12**" in table
    assert "| 12 " in table
    assert "stopped by the time limit" in table
    assert "all epochs used" not in table
    assert "12* epochs" in training_line(result("epochs"))


def test_json_has_null_for_what_is_undefined() -> None:
    document = json.loads(dump(to_json(result("patience"), {"all": evaluation()}, LABELS)))
    assert document["evaluation"]["all"]["labels"]["left cavity"]["auroc"] is None
    assert document["evaluation"]["all"]["labels"]["right cavity"]["auroc"] == 0.625
    assert document["evaluation"]["all"]["metrics"]["zone_auc"]["value"] is None
    assert document["stopped_by"] == "patience"
    assert document["evaluation"]["all"]["side_calls"] is None
    assert 0 < document["evaluation"]["all"]["labels"]["left cavity"]["brier"] < 1
    called = json.loads(dump(to_json(result("patience"), {"all": evaluation(np.array([1.5, 0.5]))}, LABELS)))
    assert called["evaluation"]["all"]["side_calls"] == {
        "cases": 2,
        "called": 2,
        "thresholds": 2,
        "sided_labels": 2,
    }
    assert called["evaluation"]["all"]["metrics"]["wrong_side_rate"]["value"] == 0.5
