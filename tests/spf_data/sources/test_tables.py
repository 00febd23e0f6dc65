import gzip

import pytest
from spf_data.sources.report import PrepareReport
from spf_data.sources.tables import MAX_LINE, find_table, read_table


def _read(path, required=("a", "b"), **options):
    report = PrepareReport()
    return list(read_table(path, required, report, **options)), report.tables.get(path.name)


def _write(tmp_path, content, name="table.csv"):
    path = tmp_path / name
    path.write_bytes(content)
    return path


def test_rows_are_numbered_from_the_first_below_the_header(tmp_path):
    rows, counts = _read(_write(tmp_path, b'a,b\r\n1,"x, y"\r\n2,\n'))
    assert rows == [(1, {"a": "1", "b": "x, y"}), (2, {"a": "2", "b": ""})]
    assert counts.as_json() == {"rows": 2}


def test_gzip_is_recognised_by_its_content_not_its_name(tmp_path):
    rows, _ = _read(_write(tmp_path, gzip.compress(b"a,b\n1,2\n"), "table.csv"))
    assert rows == [(1, {"a": "1", "b": "2"})]


def test_a_byte_order_mark_is_not_part_of_the_first_column(tmp_path):
    assert _read(_write(tmp_path, b"\xef\xbb\xbfa,b\n1,2\n"))[0] == [(1, {"a": "1", "b": "2"})]


def test_latin_1_is_read_and_named_in_the_report(tmp_path):
    rows, counts = _read(_write(tmp_path, "a,b\nok,ok\nJos\xe9,2\nü,3\n".encode("latin-1")))
    assert [row["a"] for _, row in rows] == ["ok", "José", "ü"]
    assert counts.as_json()["rows not in UTF-8"] == {"count": 2, "rows": [2, 3]}


def test_utf_8_is_not_taken_for_latin_1(tmp_path):
    rows, counts = _read(_write(tmp_path, "a,b\nJosé,2\n".encode()))
    assert rows[0][1]["a"] == "José"
    assert counts.not_utf8 == []


def test_a_trailing_empty_column_in_header_and_rows_is_ignored(tmp_path):
    rows, counts = _read(_write(tmp_path, b"a,b,,\n1,2,,\n3,4\n"))
    assert rows == [(1, {"a": "1", "b": "2"}), (2, {"a": "3", "b": "4"})]
    assert not counts.malformed


def test_rows_with_another_number_of_fields_are_counted(tmp_path):
    rows, counts = _read(_write(tmp_path, b"a,b\n1\n1,2\n1,2,3\n"))
    assert [number for number, _ in rows] == [2]
    assert counts.as_json()["malformed rows"] == {"count": 2, "rows": [1, 3]}


def test_a_missing_column_is_named_with_its_file(tmp_path):
    with pytest.raises(ValueError, match=r"table\.csv lacks the columns \['b', 'c'\]; it has \['a'\]"):
        _read(_write(tmp_path, b"a\n1\n"), ("a", "b", "c"))


def test_a_column_named_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"names the columns \['b'\] more than once"):
        _read(_write(tmp_path, b"a,b,b\n1,2,3\n"))


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "no header"), (b"a,b\n", "no rows"), (b",,\n1,2\n", "no header")]
)
def test_empty_tables_are_refused(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        _read(_write(tmp_path, content))


@pytest.mark.parametrize("cut", [30, -4])
def test_a_truncated_gzip_file_is_refused(tmp_path, cut):
    content = gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % (k, k * k) for k in range(1000)))
    with pytest.raises(ValueError, match=r"table\.csv is damaged"):
        _read(_write(tmp_path, content[:cut]))


def test_a_gzip_file_with_a_wrong_checksum_is_refused(tmp_path):
    content = bytearray(gzip.compress(b"a,b\n1,2\n"))
    content[-6] ^= 0xFF
    with pytest.raises(ValueError, match="is damaged"):
        _read(_write(tmp_path, bytes(content)))


@pytest.mark.parametrize("content", ["a,b\n1,2\n".encode("utf-16"), b"a,b\n1,\x00\n"])
def test_zero_bytes_are_refused(tmp_path, content):
    with pytest.raises(ValueError, match="zero bytes"):
        _read(_write(tmp_path, content))


def test_a_quote_that_never_ends_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is damaged, or not a CSV file"):
        _read(_write(tmp_path, b'a,b\n1,"2\n3,4\n'))


def test_a_huge_field_is_refused(tmp_path):
    with pytest.raises(ValueError, match="field larger than field limit"):
        _read(_write(tmp_path, b"a,b\n1," + b"x" * 200_000 + b"\n"))


def test_a_huge_line_is_refused_before_it_fills_the_memory(tmp_path):
    with pytest.raises(ValueError, match=f"more than {MAX_LINE} characters"):
        _read(_write(tmp_path, b"a,b\n" + b"1," * MAX_LINE))


def test_tables_are_found_as_they_are_or_gzipped(tmp_path):
    zipped = _write(tmp_path, b"", "b.csv.gz")
    assert find_table(tmp_path, "a.csv", "b.csv") == zipped
    plain = _write(tmp_path, b"", "a.csv")
    assert find_table(tmp_path, "a.csv", "b.csv") == plain
    with pytest.raises(FileNotFoundError, match=r"holds none of c\.csv"):
        find_table(tmp_path, "c.csv")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        _read(tmp_path / "c.csv")
