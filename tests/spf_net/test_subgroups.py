"""Groups of patients: none is left out silently."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from spf_net.subgroups import Subgroup, evaluate_subgroups


def case(images: int = 150) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    labels = (random.random((images, 2)) < 0.4).astype(float)
    scores = labels + random.normal(size=labels.shape)
    sex = random.choice(["F", "M", ""], images, p=[0.5, 0.45, 0.05])
    age = random.choice(["19", "20", "39.5", "64", "101", ""], images)
    view = np.array(["PA"] * (images - 1) + ["lateral"])
    patients = np.array([f"patient {number // 2}" for number in range(images)])
    return scores, labels, patients, {"sex": sex, "age": age, "view": view}


def by_name(groups: list[Subgroup]) -> dict[tuple[str, str], Subgroup]:
    return {(group.attribute, group.name): group for group in groups}


def test_a_group_is_evaluated_by_itself() -> None:
    scores, labels, patients, attributes = case()
    groups = by_name(evaluate_subgroups(scores, labels, patients, attributes))
    women = attributes["sex"] == "F"
    group = groups["sex", "F"]
    expected = np.mean([roc_auc_score(labels[women, column], scores[women, column]) for column in range(2)])
    assert group.macro_auroc.value == pytest.approx(expected, abs=1e-12)
    assert group.macro_auroc.low < expected < group.macro_auroc.high
    assert (group.images, group.patients, group.labels_averaged) == (women.sum(), len(set(patients[women])), 2)
    assert group.reason == ""


def test_every_image_is_in_one_group_of_each_attribute() -> None:
    scores, labels, patients, attributes = case()
    groups = evaluate_subgroups(scores, labels, patients, attributes, resamples=5)
    for attribute in ("sex", "age", "view"):
        assert sum(group.images for group in groups if group.attribute == attribute) == 150
    ages = {name: group.images for (attribute, name), group in by_name(groups).items() if attribute == "age"}
    assert list(ages) == ["0 to 19", "20 to 39", "40 to 59", "60 to 79", "80 and over", "not known"]
    assert ages["20 to 39"] == np.isin(attributes["age"], ["20", "39.5"]).sum()
    assert ages["40 to 59"] == 0


def test_small_groups_and_unexpected_ones_are_listed_with_the_reason() -> None:
    scores, labels, patients, attributes = case()
    groups = by_name(evaluate_subgroups(scores, labels, patients, attributes, resamples=5))
    for name in [("sex", "not known"), ("age", "40 to 59"), ("view", "lateral"), ("view", "AP")]:
        assert groups[name].reason == "fewer than 20 images"
        assert np.isnan(groups[name].macro_auroc).all()
    labels[:, :] = np.nan
    groups = by_name(evaluate_subgroups(scores, labels, patients, attributes, resamples=5))
    assert groups["view", "PA"].reason == "no label has known positives and negatives"


def test_an_attribute_the_data_lack_is_not_known_for_all() -> None:
    scores, labels, patients, _ = case()
    groups = by_name(evaluate_subgroups(scores, labels, patients, {}, resamples=5))
    for attribute in ("sex", "age", "view"):
        assert groups[attribute, "not known"].images == 150
    assert groups["sex", "F"].images == 0


@pytest.mark.parametrize("age", ["old", "-1", "nan"])
def test_an_age_must_be_a_number_of_years(age: str) -> None:
    scores, labels, patients, attributes = case()
    attributes["age"] = np.full(150, age)
    with pytest.raises(ValueError, match=f"age must be a number of years, got '{age}'"):
        evaluate_subgroups(scores, labels, patients, attributes)


def test_rows_must_agree() -> None:
    scores, labels, patients, attributes = case()
    with pytest.raises(ValueError, match=r"patients must be \(150,\), got \(149,\)"):
        evaluate_subgroups(scores, labels, patients[:-1], attributes)
    with pytest.raises(ValueError, match=r"attributes\['sex'\] must be \(150,\), got \(149,\)"):
        evaluate_subgroups(scores, labels, patients, attributes | {"sex": attributes["sex"][:-1]})
