import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from spf_data.manifest import (
    BASE_SCHEMA,
    LABEL_PREFIX,
    Manifest,
    open_atomically,
    read_manifest,
    read_table,
    write_manifest,
    write_table,
)


def _table(rows=6, **columns):
    base = {
        "image": [f"images/{row}.png" for row in range(rows)],
        "patient": [f"p{row // 2}" for row in range(rows)],
        "study": [f"s{row}" for row in range(rows)],
        "view": ["PA"] * rows,
        "source": ["test"] * rows,
        "split": ["train", "train", "validation", "validation", "test", "test"][:rows],
        "complete": [True] * rows,
        "age": [50.0, None, 1.5, 99.0, 3.0, 4.0][:rows],
        "sex": ["F", "M", "", "F", "M", "F"][:rows],
    }
    table = pa.Table.from_pydict(base | columns, BASE_SCHEMA)
    for name, values in (("effusion", [1, 0, None]), ("a: b", [None, None, 1])):
        table = table.append_column(LABEL_PREFIX + name, pa.array((values * rows)[:rows], pa.int8()))
    return table


def test_a_manifest_is_read_as_it_was_written(tmp_path):
    manifest = Manifest(_table(), {"source": "test", "licence": "none – really"})
    write_manifest(tmp_path / "new" / "m.parquet", manifest)
    read = read_manifest(tmp_path / "new" / "m.parquet")
    assert read.table.equals(manifest.table)
    assert read.info == manifest.info
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["m.parquet"]


def test_labels_are_1_0_and_nan_in_the_columns_order():
    manifest = Manifest(_table(), {})
    assert manifest.label_names == ("effusion", "a: b")
    expected = np.array([[1, np.nan], [0, np.nan], [np.nan, 1]] * 2, dtype=np.float32)
    assert np.array_equal(manifest.labels(), expected, equal_nan=True)
    assert manifest.labels().dtype == np.float32


def test_parts_are_row_numbers():
    rows = Manifest(_table(), {}).rows()
    assert {part: found.tolist() for part, found in rows.items()} == {
        "train": [0, 1],
        "validation": [2, 3],
        "test": [4, 5],
    }


def test_the_split_s_hash_is_kept_and_checked():
    manifest = Manifest(_table(), {})
    assert len(manifest.info["split_hash"]) == 64
    with pytest.raises(ValueError, match="split_hash must be that of the table's split"):
        Manifest(_table(split=["train"] * 6), dict(manifest.info))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": ["a.png"] * 6}, "5 paths more than once"),
        ({"image": ["/a.png", *"bcdef"]}, "relative to the root"),
        ({"image": ["a/../../b.png", *"bcdef"]}, "got another in row 0"),
        ({"image": [*"abcde", ""]}, "got another in row 5"),
        ({"image": ["a\\b.png", *"bcdef"]}, "relative to the root"),
        ({"image": [None, *"bcdef"]}, "column image must have no nulls, got 1"),
        ({"patient": ["p", "", *"cdef"]}, "got an empty one in row 1"),
        ({"split": ["train"] * 5 + ["holdout"]}, r"split must be one of .* got \['holdout'\]"),
        ({"split": ["train", "test"] * 3}, "3 of 3 patients are in more than one part"),
    ],
)
def test_invalid_rows_are_refused(columns, message):
    with pytest.raises(ValueError, match=message):
        Manifest(_table(**columns), {})


def test_invalid_columns_are_refused():
    table = _table()
    with pytest.raises(ValueError, match=r"lacks the columns \['view'\]"):
        Manifest(table.drop_columns(["view"]), {})
    with pytest.raises(ValueError, match=r"unknown columns \['effusion'\]"):
        Manifest(table.append_column("effusion", pa.array([1] * 6, pa.int8())), {})
    with pytest.raises(ValueError, match="different names"):
        Manifest(table.append_column("label:effusion", pa.array([1] * 6, pa.int8())), {})
    with pytest.raises(TypeError, match="label:x must be int8, got double"):
        Manifest(table.append_column("label:x", pa.array([0.5] * 6)), {})
    with pytest.raises(ValueError, match=r"label:x must hold 1, 0 and null, got \[-1, 2\]"):
        Manifest(table.append_column("label:x", pa.array([2, -1, None, 1, 0, 0], pa.int8())), {})
    with pytest.raises(ValueError, match="must have rows"):
        Manifest(table.slice(0, 0), {})


def test_files_that_are_no_manifests_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_manifest(tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("image,patient\n")
    with pytest.raises(ValueError, match="not a readable Parquet file"):
        read_manifest(tmp_path / "text.parquet")
    pq.write_table(_table(), tmp_path / "other.parquet")
    with pytest.raises(ValueError, match="must be a manifest of version 1, got None"):
        read_manifest(tmp_path / "other.parquet")


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "m.parquet"
    write_manifest(path, Manifest(_table(), {}))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="not a readable Parquet file"):
        read_manifest(path)


def test_a_file_changed_by_hand_is_found_out(tmp_path):
    path = tmp_path / "m.parquet"
    write_manifest(path, Manifest(_table(), {}))
    table = pq.read_table(path)
    column = table.column_names.index("split")
    changed = table.set_column(column, "split", pa.array(["test"] * 2 + ["validation"] * 2 + ["train"] * 2))
    pq.write_table(changed, path)
    with pytest.raises(ValueError, match="split_hash must be"):
        read_manifest(path)


def _write_half(path):
    with open_atomically(path) as opened:
        opened.write(b"half")
        raise RuntimeError("cut off")


def test_a_file_that_could_not_be_written_whole_leaves_the_earlier_one(tmp_path):
    path = tmp_path / "m.parquet"
    write_table(path, _table())
    with pytest.raises(RuntimeError, match="cut off"):
        _write_half(path)
    assert read_table(path).equals(_table())
    assert [other.name for other in tmp_path.iterdir()] == ["m.parquet"]
