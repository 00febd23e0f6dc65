import numpy as np
import pytest
from spf_data.splits import PARTS, check_leakage, grouped_split, own_split, part_of_rows, split_hash


def _groups(patients, seed=0):
    return np.repeat(
        [f"patient-{number}" for number in range(patients)], np.random.default_rng(seed).integers(1, 4, patients)
    )


def test_every_row_is_in_exactly_one_part():
    groups = _groups(500)
    split = grouped_split(groups)
    assert tuple(split) == PARTS
    assert np.array_equal(np.sort(np.concatenate(list(split.values()))), np.arange(len(groups)))


def test_no_patient_is_in_two_parts():
    groups = _groups(500)
    train, validation, test = (set(groups[rows]) for rows in grouped_split(groups).values())
    assert not train & validation
    assert not train & test
    assert not validation & test


@pytest.mark.parametrize(
    "fractions", [(0.7, 0.1, 0.2), (0.5, 0.0, 0.5), (0.0, 0.5, 0.5), (0.6, 0.4, 0.0), (1.0, 0.0, 0.0)]
)
def test_fractions_are_met_on_average(fractions):
    groups = [f"patient-{number}" for number in range(5000)]
    shares = [len(rows) / len(groups) for rows in grouped_split(groups, fractions).values()]
    # Five standard deviations of a binomial share.
    assert shares == pytest.approx(fractions, abs=5 * 0.5 / 5000**0.5)
    assert [share == 0 for share in shares] == [fraction == 0 for fraction in fractions]


def test_new_rows_leave_the_old_ones_where_they_are():
    groups = _groups(300)
    more = np.concatenate([_groups(100, seed=1) + "-new", groups])
    moved = more[grouped_split(more)["test"]]
    assert set(moved) >= set(groups[grouped_split(groups)["test"]])
    assert {name for name in moved if not name.endswith("new")} == set(groups[grouped_split(groups)["test"]])


def test_seed_changes_the_split():
    groups = _groups(300)
    assert not np.array_equal(grouped_split(groups, seed=0)["test"], grouped_split(groups, seed=1)["test"])


def test_split_is_the_same_in_every_process():
    groups = [f"patient-{number}" for number in range(10)]
    assert grouped_split(groups, (0.5, 0.2, 0.3))["train"].tolist() == [0, 1, 2, 3, 5, 6, 9]


@pytest.mark.parametrize(
    "fractions", [(0.7, 0.1, 0.1), (0.7, 0.4, -0.1), (0.5, 0.5), (1.2, -0.1, -0.1), (float("nan"), 0.5, 0.5), ()]
)
def test_invalid_fractions_are_refused(fractions):
    with pytest.raises(ValueError, match="fractions must"):
        grouped_split(["a", "b", "c"], fractions)


def test_no_rows_and_nameless_groups_are_refused():
    with pytest.raises(ValueError, match="got 0 rows"):
        grouped_split([])
    with pytest.raises(ValueError, match="row 1"):
        grouped_split(["a", "", "b"])


def test_too_few_groups_are_refused_rather_than_left_out():
    with pytest.raises(ValueError, match="2 groups are too few"):
        grouped_split(["a", "a", "b"])


def test_names_of_parts_are_those_of_the_rows():
    groups = _groups(100)
    split = grouped_split(groups)
    parts = np.array(part_of_rows(split))
    assert all(np.array_equal(np.flatnonzero(parts == part), rows) for part, rows in split.items())


def test_rows_in_two_parts_or_in_none_have_no_name():
    with pytest.raises(ValueError, match="each of 3 rows once"):
        part_of_rows({"train": np.array([0, 1]), "test": np.array([1])})
    with pytest.raises(ValueError, match="each of 2 rows once"):
        part_of_rows({"train": np.array([0]), "test": np.array([2])})


@pytest.mark.parametrize("name", ["validation", "validate", "valid", "val", "dev"])
def test_a_data_set_s_own_split_is_taken_by_any_of_the_usual_names(name):
    split = own_split(["a", "b", "c", "a"], ["train", name, "test", "train"])
    assert {part: rows.tolist() for part, rows in split.items()} == {"train": [0, 3], "validation": [1], "test": [2]}


def test_a_data_set_s_own_split_is_checked():
    with pytest.raises(ValueError, match="equally long, got 2 and 1"):
        own_split(["a", "b"], ["train"])
    with pytest.raises(ValueError, match=r"got \['', 'holdout'\]"):
        own_split(["a", "b", "c"], ["train", "holdout", ""])
    with pytest.raises(ValueError, match="1 of 2 patients are in more than one part"):
        own_split(["a", "b", "a"], ["train", "train", "test"])


def test_leakage_is_counted_and_names_nobody():
    groups = ["p10000032", "p10000032", "p10000033", "p10000033", "p10000034"]
    check_leakage(groups, ["train", "train", "test", "test", "test"])
    with pytest.raises(ValueError, match="2 of 3 patients") as caught:
        check_leakage(groups, ["train", "test", "test", "train", "test"])
    assert "p1000" not in str(caught.value)


def test_a_split_s_hash_depends_on_who_is_where_and_on_nothing_else():
    groups, parts = ["a", "b", "c", "a"], ["train", "test", "train", "train"]
    expected = split_hash(groups, parts)
    order = [3, 1, 2, 0]
    assert split_hash([groups[k] for k in order], [parts[k] for k in order]) == expected
    assert split_hash(groups[:3], parts[:3]) == expected
    assert split_hash(groups, ["train", "train", "train", "train"]) != expected
    assert split_hash(["a", "b", "d", "a"], parts) != expected
    assert split_hash(["1", "21"], ["train", "test"]) != split_hash(["12", "1"], ["train", "test"])


def test_a_split_s_hash_is_the_same_in_every_process():
    assert split_hash(["a", "b"], ["train", "test"])[:16] == "af8bd328de5f6e97"
