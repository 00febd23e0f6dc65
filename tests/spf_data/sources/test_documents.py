import io
import tarfile
import zipfile

import pytest
from spf_data.sources import documents
from spf_data.sources.documents import Documents
from spf_data.sources.report import PrepareReport

CONTENTS = {"d/a.txt": b"first", "d/b.txt": b"second", "c.xml": b"other"}


def _folder(tmp_path, contents):
    for name, content in contents.items():
        path = tmp_path / "documents" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "documents"


def _zip(tmp_path, contents):
    path = tmp_path / "documents.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


def _tgz(tmp_path, contents, extra=()):
    path = tmp_path / "documents.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member in extra:
            archive.addfile(member)
    return path


def _read(path):
    report = PrepareReport()
    with Documents(path, ".txt", report) as opened:
        return dict(opened), dict(report.noticed)


@pytest.mark.parametrize("pack", [_folder, _zip, _tgz])
def test_documents_are_read_from_a_folder_a_zip_and_a_tar_file(tmp_path, pack):
    found, noticed = _read(pack(tmp_path, CONTENTS))
    assert found == {"d/a.txt": b"first", "d/b.txt": b"second"}
    assert noticed == {}


@pytest.mark.parametrize("pack", [_folder, _zip])
def test_single_documents_are_looked_up(tmp_path, pack):
    with Documents(pack(tmp_path, CONTENTS), ".txt", PrepareReport()) as opened:
        assert opened.read("d/b.txt") == b"second"
        assert opened.read("d/c.txt") is None


def test_single_documents_can_not_be_looked_up_in_a_tar_file(tmp_path):
    with pytest.raises(ValueError, match="must be a folder or a zip file"):
        Documents(_tgz(tmp_path, CONTENTS), ".txt", PrepareReport()).read("d/a.txt")


@pytest.mark.parametrize("name", ["../escaped.txt", "/tmp/escaped.txt", "d/../../escaped.txt"])
@pytest.mark.parametrize("pack", [_zip, _tgz])
def test_nothing_is_ever_written_whatever_the_members_are_called(tmp_path, pack, name):
    (tmp_path / "inner").mkdir()
    path = pack(tmp_path / "inner", {name: b"x"})
    before = sorted(tmp_path.rglob("*"))
    assert _read(path)[0] == {name: b"x"}
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_s_documents_do_not_lead_out_of_it(tmp_path):
    folder = _folder(tmp_path, CONTENTS)
    (tmp_path / "secret.txt").write_bytes(b"secret")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    found, noticed = _read(folder)
    assert set(found) == {"d/a.txt", "d/b.txt"}
    assert noticed == {"document outside its folder": 1}
    assert Documents(folder, ".txt", PrepareReport()).read("../secret.txt") is None


def test_links_in_a_tar_file_are_not_followed(tmp_path):
    link = tarfile.TarInfo("d/link.txt")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
    found, noticed = _read(_tgz(tmp_path, CONTENTS, [link]))
    assert set(found) == {"d/a.txt", "d/b.txt"}
    assert noticed == {"document is a link": 1}


@pytest.mark.parametrize("pack", [_folder, _zip, _tgz])
def test_a_document_that_would_fill_the_memory_is_left_out(tmp_path, pack, monkeypatch):
    monkeypatch.setattr(documents, "MAX_DOCUMENT", 1000)
    found, noticed = _read(pack(tmp_path, CONTENTS | {"bomb.txt": b"0" * 5000}))
    assert set(found) == {"d/a.txt", "d/b.txt"}
    assert noticed == {"document too large": 1}


def test_a_damaged_member_is_left_out_and_the_others_are_read(tmp_path):
    path = _zip(tmp_path, CONTENTS)
    path.write_bytes(path.read_bytes().replace(b"first", b"fjrst"))
    found, noticed = _read(path)
    assert set(found) == {"d/b.txt"}
    assert noticed == {"unreadable document": 1}


def test_an_encrypted_member_is_left_out(tmp_path):
    path = _zip(tmp_path, {"a.txt": b"first"})
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(content))
    assert _read(path) == ({}, {"encrypted document": 1})


def test_a_member_that_is_there_twice_counts_once(tmp_path):
    path = _zip(tmp_path, CONTENTS)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("d/a.txt", b"again")
    found, noticed = _read(path)
    assert set(found) == {"d/a.txt", "d/b.txt"}
    assert noticed == {"document twice in its archive": 1}


def test_what_macos_puts_beside_each_file_is_no_document(tmp_path):
    assert set(_read(_zip(tmp_path, CONTENTS | {"__MACOSX/d/._a.txt": b"\0"}))[0]) == {"d/a.txt", "d/b.txt"}


@pytest.mark.parametrize(("pack", "message"), [(_zip, "is damaged"), (_tgz, "not a tar file, or is damaged")])
def test_a_truncated_archive_is_refused(tmp_path, pack, message):
    contents = {f"{k}.txt": bytes(range(256)) * 40 for k in range(40)}
    path = pack(tmp_path, contents)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=message):
        _read(path)


@pytest.mark.parametrize("name", ["documents.zip", "documents.tgz", "documents.txt"])
def test_what_is_no_archive_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"not an archive")
    with pytest.raises(ValueError, match="damaged"):
        _read(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        _read(tmp_path / f"no {name}")
