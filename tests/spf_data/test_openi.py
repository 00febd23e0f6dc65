import io
import tarfile
from functools import cache
from pathlib import Path

import pytest
from spf_data.findings import Finding
from spf_data.openi import MeshMap, load_mesh_map, read_archive
from spf_data.vocabulary import FOLDER, Vocabulary, load_vocabulary

REPORT = """<?xml version="1.0" encoding="utf-8"?><eCitation><uId id="{identifier}"/>
<MedlineCitation><Article><Abstract>
<AbstractText Label="COMPARISON"/>
<AbstractText Label="INDICATION">Cough.</AbstractText>
<AbstractText Label="FINDINGS">Left base opacity.</AbstractText>
<AbstractText Label="IMPRESSION">Opacity &amp; effusion.</AbstractText>
</Abstract></Article></MedlineCitation>
<MeSH><major>Opacity/lung/base/left</major><major>Technical Quality of Image Unsatisfactory </major></MeSH>
<parentImage id="CXR1_IM-0001-1001"/><parentImage id="CXR1_IM-0001-2001"/></eCitation>"""


@cache
def vocabulary() -> Vocabulary:
    return load_vocabulary()


@cache
def mesh() -> MeshMap:
    return load_mesh_map(vocabulary())


def archive(folder: Path, files: dict[str, bytes]) -> Path:
    path = folder / "reports.tgz"
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def test_a_report_is_read(tmp_path):
    (report,) = read_archive(archive(tmp_path, {"x/1.xml": REPORT.format(identifier="CXR1").encode()})).reports
    assert report.identifier == "CXR1"
    assert report.sections["IMPRESSION"] == "Opacity & effusion."
    assert report.sections["COMPARISON"] == ""
    assert report.codes == ("Opacity/lung/base/left", "Technical Quality of Image Unsatisfactory")
    assert report.images == ("CXR1_IM-0001-1001", "CXR1_IM-0001-2001")
    assert report.text.startswith("COMPARISON: \n\nINDICATION: Cough.")


def test_what_is_no_report_is_counted(tmp_path):
    good = REPORT.format(identifier="CXR1").encode()
    files = {
        "1.xml": good,
        "again.xml": good,
        "cut.xml": good[:100],
        "nameless.xml": good.replace(b'<uId id="CXR1"/>', b""),
        "readme.txt": b"hello",
        "entity.xml": b'<!DOCTYPE a [<!ENTITY b "c">]>' + good,
        "huge.xml": good + b" " * 1_000_001,
        "../../outside.xml": REPORT.format(identifier="CXR2").encode(),
    }
    read = read_archive(archive(tmp_path, files))
    # nothing is extracted, so a path that leaves the folder does no harm
    assert [report.identifier for report in read.reports] == ["CXR1", "CXR2"]
    assert read.dropped == {
        "duplicate identifier": 1,
        "broken XML": 1,
        "no identifier": 1,
        "not XML": 1,
        "declares entities": 1,
        "too large": 1,
    }
    assert list(tmp_path.iterdir()) == [tmp_path / "reports.tgz"]


def test_links_in_an_archive_are_not_followed(tmp_path):
    path = tmp_path / "reports.tgz"
    with tarfile.open(path, "w:gz") as tar:
        link = tarfile.TarInfo("1.xml")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    assert read_archive(path).reports == ()


def test_no_archive_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_archive(tmp_path / "absent.tgz")


@pytest.mark.parametrize(
    ("code", "canonical"),
    [
        ("Opacity/lung/base/left/mild", ["finding|yes|opacity|base|left|mild"]),
        ("Pulmonary Atelectasis/lingula", ["finding|yes|atelectasis|lingula|left|"]),
        ("Cardiomegaly/borderline", ["finding|yes|cardiomegaly|heart||mild"]),
        ("Costophrenic Angle/left/blunted", ["finding|yes|blunted costophrenic angle|costophrenic angle|left|"]),
        ("Calcinosis/lung/hilum/lymph nodes/right", ["finding|yes|calcification|hilum+lymph node|right|"]),
        ("Lung/hypoinflation", ["finding|yes|hypoinflation|||"]),
        ("Aorta, Thoracic/tortuous/mild", ["finding|yes|tortuous aorta|aorta||mild"]),
        ("Thoracic Vertebrae/degenerative", ["finding|yes|degenerative change|thoracic spine||"]),
        ("Opacity/left/right/base", ["finding|yes|opacity|base|bilateral|"]),
        (
            "Hydropneumothorax/left",
            ["finding|yes|pleural effusion|pleura|left|", "finding|yes|pneumothorax|pleura|left|"],
        ),
        ("normal", []),
        ("Trachea", []),
    ],
)
def test_a_code_becomes_findings(code, canonical):
    assert [str(finding) for finding in mesh().findings((code,), vocabulary())] == canonical


def test_finding_names_its_code():
    (finding,) = mesh().findings(("Opacity/lung/base/left",), vocabulary())
    assert isinstance(finding, Finding)
    assert finding.rule == "MeSH code Opacity/lung/base/left"


def test_codes_that_are_not_mapped_are_known():
    assert [mesh().is_mapped(code) for code in ("normal", "Opacity", "Trachea", "Lung/clear")] == [
        True,
        True,
        False,
        False,
    ]


def test_an_unknown_name_in_the_map_is_refused(tmp_path):
    path = tmp_path / "mesh.yaml"
    path.write_text((FOLDER / "mesh.yaml").read_text().replace('Nodule: {"": nodule}', 'Nodule: {"": knot}'))
    with pytest.raises(ValueError, match=r"mesh\.yaml names \['knot'\]"):
        load_mesh_map(vocabulary(), path)
