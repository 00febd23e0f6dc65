import tarfile

import pytest
from spf_data.findings import Finding
from spf_data.sources import open_i
from spf_data.sources.open_i import split_code

from .layouts import counts_hold, findings_of, labels_of, options, write_csv, write_image

XML = """<?xml version="1.0" encoding="utf-8"?>
<eCitation><meta type="rr"/><uId id="{uid}"/><MedlineCitation><Article><Abstract>
<AbstractText Label="COMPARISON">None.</AbstractText><AbstractText Label="INDICATION"/>
<AbstractText Label="FINDINGS">There are XXXX opacities.</AbstractText>
<AbstractText Label="IMPRESSION">Opacity.</AbstractText>
</Abstract></Article></MedlineCitation><MeSH>{codes}<automatic>opacity</automatic></MeSH>{images}</eCitation>"""


def _xml(number, codes=("normal",), images=(1001, 2001)):
    return XML.format(
        uid=f"CXR{number}" if number else "",
        codes="".join(f"<major>{code}</major>" for code in codes),
        images="".join(
            f'<parentImage id="CXR{number}_IM-2050-{image}"><figureId>F1</figureId></parentImage>' for image in images
        ),
    )


def _write(root, reports, views=True):
    folder = root / "ecgen-radiology"
    folder.mkdir(exist_ok=True)
    for number, content in reports.items():
        (folder / f"{number}.xml").write_bytes(content.encode() if isinstance(content, str) else content)
    if views:
        rows = [
            {"imageid": f"CXR{number}_IM-2050-{image}", "View Position": view}
            for number in reports
            for image, view in ((1001, "PA"), (2001, "LL"), (3001, ""))
        ]
        write_csv(root / "nlmcxr_dicom_metadata.csv", rows, zipped=True)
    return folder


def _prepare(root, **changes):
    return open_i.prepare(options(root, **({"require_images": False} | changes)))


@pytest.mark.parametrize(
    ("code", "parts"),
    [
        ("Opacity/lung/apex/left/irregular", ("opacity", ("lung", "apex"), "left", ("irregular",))),
        ("Pleural Effusion/bilateral/small", ("pleural effusion", (), "bilateral", ("small",))),
        ("Opacity/lung/left/right", ("opacity", ("lung",), "bilateral", ())),
        ("Subcutaneous  Emphysema/thorax//right", ("subcutaneous emphysema", ("thorax",), "right", ())),
        ("Cardiomegaly", ("cardiomegaly", (), "", ())),
    ],
)
def test_a_code_is_a_finding_with_its_place(code, parts):
    finding = split_code(code)
    assert (finding.finding, finding.anatomy, finding.laterality, finding.modifiers) == parts


def test_reports_become_images_labels_and_findings(tmp_path):
    _write(tmp_path, {4: _xml(4, ("Opacity/lung/apex/left/irregular", "Cardiomegaly")), 5: _xml(5)})
    prepared = _prepare(tmp_path)
    assert labels_of(prepared) == {
        "CXR4_IM-2050-1001.png": {"cardiomegaly": 1, "normal": 0, "opacity": 1},
        "CXR5_IM-2050-1001.png": {"cardiomegaly": 0, "normal": 1, "opacity": 0},
    }
    assert findings_of(prepared) == [("opacity", "yes", "lung|apex", "left"), ("cardiomegaly", "yes", "", "")]
    assert prepared.manifest.column("patient") == ["open-i:4", "open-i:5"]
    assert prepared.report.dropped == {"not frontal: lateral": 2}
    assert counts_hold(prepared)


def test_the_archive_is_read_without_extracting_it(tmp_path):
    folder = _write(tmp_path, {4: _xml(4)})
    with tarfile.open(tmp_path / "NLMCXR_reports.tgz", "w:gz") as archive:
        archive.add(folder, "ecgen-radiology")
    (folder / "4.xml").unlink()
    folder.rmdir()
    before = sorted(tmp_path.iterdir())
    assert len(_prepare(tmp_path).manifest) == 1
    assert sorted(tmp_path.iterdir()) == before


def test_the_views_of_kaggle_s_table_and_of_the_clustering_fill_the_gaps_of_dicom_s(tmp_path):
    _write(tmp_path, {4: _xml(4, images=(1001, 2001, 3001, 4001, 5001))})
    rows = [
        {"uid": "4", "filename": f"4_IM-2050-{image}.dcm.png", "projection": view}
        for image, view in ((2001, "Frontal"), (3001, "Frontal"), (4001, "Lateral"))
    ]
    write_csv(tmp_path / "indiana_projections.csv", rows)
    clusters = [{"imageid": f"CXR4_IM-2050-{image}", "tsne-view": "PA"} for image in (1001, 4001, 5001)]
    write_csv(tmp_path / "nlmcxr_tsne_pa.csv", clusters)
    prepared = _prepare(tmp_path, views="all")
    views = zip(prepared.manifest.column("image"), prepared.manifest.column("view"), strict=True)
    assert [(image[-8:-4], view) for image, view in views] == [
        ("1001", "PA"),
        ("2001", "lateral"),
        ("3001", "frontal"),
        ("4001", "lateral"),
        ("5001", "frontal"),
    ]


def test_without_any_views_nothing_is_frontal_and_the_error_says_so(tmp_path):
    _write(tmp_path, {4: _xml(4)}, views=False)
    with pytest.raises(ValueError, match=r"\{'view not known': 2\}"):
        _prepare(tmp_path)
    assert len(_prepare(tmp_path, views="all").manifest) == 2


def test_reports_that_were_not_indexed_have_unknown_labels(tmp_path):
    _write(tmp_path, {4: _xml(4, ("No Indexing",)), 5: _xml(5, ()), 6: _xml(6, ("Nodule/lung",))})
    labels = labels_of(_prepare(tmp_path))
    assert labels["CXR4_IM-2050-1001.png"] == labels["CXR5_IM-2050-1001.png"] == {"nodule": None}


def test_images_of_unsatisfactory_quality_are_dropped(tmp_path):
    _write(tmp_path, {4: _xml(4, ("Technical Quality of Image Unsatisfactory", "Nodule")), 5: _xml(5)})
    prepared = _prepare(tmp_path)
    assert prepared.report.dropped["unsatisfactory image quality"] == 2
    assert prepared.findings.num_rows == 0
    assert counts_hold(prepared)


def test_reports_without_images_and_images_without_files_are_counted(tmp_path):
    _write(tmp_path, {4: _xml(4, images=()), 5: _xml(5), 6: _xml(6)})
    write_image(tmp_path / "NLMCXR_png" / "CXR5_IM-2050-1001.png")
    prepared = _prepare(tmp_path, require_images=True)
    assert prepared.manifest.column("image") == ["NLMCXR_png/CXR5_IM-2050-1001.png"]
    assert prepared.report.noticed["report without an image"] == 1
    assert prepared.report.dropped["missing image"] == 3


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
    '<eCitation><uId id="CXR9"/><x>&b;</x></eCitation>'
)


@pytest.mark.parametrize(
    ("content", "notice"),
    [
        (BOMB, "report left out: XML with a document type"),
        (BOMB.encode("utf-16"), "report left out: XML with a document type"),
        (
            BOMB.replace("<!ENTITY a ", '<!ENTITY a SYSTEM "file:///etc/passwd" '),
            "report left out: XML with a document type",
        ),
        ("<eCitation><uId id='CXR9'/>", "report left out: not XML, or without an identifier"),
        ("", "report left out: not XML, or without an identifier"),
        (b"\xff\xfe\x00<", "report left out: not XML, or without an identifier"),
        ('<?xml version="1.0" encoding="latin-9000"?><a/>', "report left out: not XML, or without an identifier"),
        (_xml(None), "report left out: not XML, or without an identifier"),
    ],
)
def test_damaged_and_dangerous_reports_are_left_out_and_counted(tmp_path, content, notice):
    _write(tmp_path, {4: _xml(4), 9: content})
    prepared = _prepare(tmp_path)
    assert prepared.report.noticed == {notice: 1}
    assert len(prepared.manifest) == 1


def test_two_reports_with_one_identifier_count_once(tmp_path):
    _write(tmp_path, {4: _xml(4), 5: _xml(4)})
    prepared = _prepare(tmp_path)
    assert len(prepared.manifest) == 1
    assert prepared.report.noticed == {"report with the identifier of an earlier one": 1}


def _write_kaggle(root):
    reports = [
        {
            "uid": "1",
            "MeSH": "Opacity/lung/base/left;Cardiomegaly/mild",
            "Problems": "Opacity;Cardiomegaly",
            "image": "Xray Chest PA and Lateral",
            "indication": "Positive TB test",
            "comparison": "None.",
            "findings": "",
            "impression": "Opacity.",
        }
    ]
    write_csv(root / "indiana_reports.csv", reports)
    projections = [
        {"uid": "1", "filename": "1_IM-0001-3001.dcm.png", "projection": "Lateral"},
        {"uid": "1", "filename": "1_IM-0001-4001.dcm.png", "projection": "Frontal"},
        {"uid": "2", "filename": "2_IM-0652-1001.dcm.png", "projection": "Frontal"},
    ]
    write_csv(root / "indiana_projections.csv", projections)


def test_kaggle_s_copy_is_read_too(tmp_path):
    _write_kaggle(tmp_path)
    prepared = _prepare(tmp_path)
    assert labels_of(prepared) == {"1_IM-0001-4001.dcm.png": {"cardiomegaly": 1, "opacity": 1}}
    assert findings_of(prepared)[0] == ("opacity", "yes", "lung|base", "left")
    assert prepared.report.dropped == {"not frontal: lateral": 1, "image of no report": 1}
    assert counts_hold(prepared)


def test_reports_are_handed_to_the_labeller_with_their_headings(tmp_path):
    _write(tmp_path, {4: _xml(4)})
    texts = []

    def label(text):
        texts.append(text)
        return [Finding("finding", "yes", "opacity", span=(0, 1), rule="test")]

    prepared = _prepare(tmp_path, label_report=label)
    assert texts == ["COMPARISON: None.\nFINDINGS: There are XXXX opacities.\nIMPRESSION: Opacity.\n"]
    assert findings_of(prepared) == [("opacity", "yes", "", "")]


def test_a_truncated_archive_and_an_absent_one_are_refused(tmp_path):
    folder = _write(tmp_path, {number: _xml(number) for number in range(1, 40)})
    path = tmp_path / "NLMCXR_reports.tgz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, "ecgen-radiology")
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(ValueError, match=r"NLMCXR_reports\.tgz is not a tar file, or is damaged"):
        _prepare(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"indiana_projections\.csv"):
        _prepare(tmp_path / "ecgen-radiology")
