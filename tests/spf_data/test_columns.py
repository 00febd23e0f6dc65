import numpy as np
import pytest
from spf_data.columns import has_columns, read_columns, write_columns

ARRAYS = {"a": np.arange(6.0).reshape(2, 3), "b-c": np.array(["x", "yz"])}


def test_columns_are_read_as_they_were_written_and_mapped(tmp_path):
    folder = tmp_path / "new" / "columns"
    assert not has_columns(folder)
    write_columns(folder, ARRAYS, {"facts": [1, "ü"]})
    arrays, facts = read_columns(folder)
    assert facts == {"facts": [1, "ü"]}
    for name, array in ARRAYS.items():
        assert np.array_equal(arrays[name], array)
        assert isinstance(arrays[name].base, np.memmap)
    arrays["a"][0] = 7
    assert np.array_equal(read_columns(folder)[0]["a"], ARRAYS["a"])
    assert [path.name for path in folder.parent.iterdir()] == ["columns"]


def test_the_first_of_two_writers_stays(tmp_path):
    write_columns(tmp_path / "c", ARRAYS, {"by": 1})
    write_columns(tmp_path / "c", ARRAYS, {"by": 2})
    assert read_columns(tmp_path / "c")[1] == {"by": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_objects_are_neither_written_nor_read(tmp_path):
    objects = np.array([{}], dtype=object)
    with pytest.raises(ValueError, match="allow_pickle"):
        write_columns(tmp_path / "c", {"a": objects}, {})
    assert not list(tmp_path.iterdir())
    write_columns(tmp_path / "c", ARRAYS, {})
    np.save(tmp_path / "c" / "a.npy", objects, allow_pickle=True)
    with pytest.raises(ValueError, match="is damaged"):
        read_columns(tmp_path / "c")


def test_absent_and_damaged_columns_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no columns"):
        read_columns(tmp_path / "c")
    write_columns(tmp_path / "c", ARRAYS, {})
    path = tmp_path / "c" / "a.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="is damaged"):
        read_columns(tmp_path / "c")
