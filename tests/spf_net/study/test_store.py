"""Finished fits are found again, whole, by their settings alone."""

from pathlib import Path

import numpy as np
import pytest
from spf_net.study.store import Record, Store, digest

RECORD = Record(np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32), 0.25, 3, 7, 1.5, 42)


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    store = Store(tmp_path / "fits")
    assert store.find({"lr": 1e-3, "head": "spf"}) is None
    store.keep({"lr": 1e-3, "head": "spf"}, RECORD)
    found = Store(tmp_path / "fits").find({"head": "spf", "lr": 1e-3})
    assert found is not None
    assert np.array_equal(found.scores, RECORD.scores)
    assert {**vars(found), "scores": 0} == {**vars(RECORD), "scores": 0}
    assert store.find({"lr": 2e-3, "head": "spf"}) is None


def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.keep({"lr": 1}, RECORD)
    (path,) = tmp_path.glob("*.npz")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="is damaged; delete it"):
        store.find({"lr": 1})


def test_a_digest_tells_rows_apart() -> None:
    first, second = np.arange(3), np.arange(4)
    assert digest(first, second) == digest(first.copy(), second.copy())
    assert (
        len(
            {digest(first, second), digest(second, first), digest(np.arange(7)), digest(first.astype(np.int32), second)}
        )
        == 4
    )
