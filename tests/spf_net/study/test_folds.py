"""Nested folds: every image is tested once, and no patient is in two parts."""

import numpy as np
import pytest
from spf_net.study.folds import fold_of_row, nested_folds


def test_no_patient_is_in_two_parts_and_every_image_is_tested_once() -> None:
    random = np.random.default_rng(0)
    patients = np.array([f"p{number}" for number in random.integers(0, 60, 150)])
    strata = np.array([f"{int(name[1:]) % 2}" for name in patients])
    folds = nested_folds(strata, patients, 4, seed=3)
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(150))
    for fold in folds:
        names = [set(patients[rows]) for rows in fold]
        assert len(set.union(*names)) == sum(map(len, names)) == len(set(patients))
        assert sum(map(len, fold)) == 150
        assert 0.1 < len(fold.validation) / (len(fold.train) + len(fold.validation)) < 0.35
    number = fold_of_row(folds, 150)
    assert all((number[fold.test] == index).all() for index, fold in enumerate(folds))


def test_another_seed_gives_other_folds() -> None:
    patients, strata = np.arange(50).astype(str), np.zeros(50).astype(str)
    first, again, other = (nested_folds(strata, patients, 5, seed) for seed in (0, 0, 1))
    assert all(np.array_equal(a.train, b.train) for a, b in zip(first, again, strict=True))
    assert any(not np.array_equal(a.test, b.test) for a, b in zip(first, other, strict=True))


def test_too_few_patients_are_refused() -> None:
    with pytest.raises(ValueError, match="n_splits"):
        nested_folds(np.zeros(3).astype(str), np.arange(3).astype(str), 5, 0)
