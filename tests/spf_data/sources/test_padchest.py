import pytest
from spf_data.sources import padchest
from spf_data.sources.padchest_labels import Group, Place, parse_groups, parse_list, places_of, split_side

from .layouts import PADCHEST_TABLE, counts_hold, findings_of, labels_of, options, padchest_row, write_csv, write_image


def _prepare(root, rows, **changes):
    write_csv(root / PADCHEST_TABLE, rows, zipped=True)
    return padchest.prepare(options(root, **({"require_images": False} | changes)))


def _said(text, labels=None, **changes):
    groups = parse_groups(text) or []
    listed = labels or str([label for group in groups for label in group.labels])
    return padchest_row(Labels=listed, LabelsLocalizationsBySentence=text, **changes)


def test_physicians_rows_are_one_list_a_sentence():
    text = (
        "[['pulmonary fibrosis', 'loc basal bilateral'], ['kyphosis'], "
        "['pseudonodule', 'ground glass pattern', 'loc basal']]"
    )
    assert parse_groups(text) == [
        Group(("pulmonary fibrosis",), ("basal bilateral",)),
        Group(("kyphosis",), ()),
        Group(("pseudonodule", "ground glass pattern"), ("basal",)),
    ]


def test_in_the_network_s_flat_rows_a_leading_space_joins_a_group_and_places_hold_for_all_of_it():
    text = (
        "['pleural effusion', 'loc right', 'loc pleural', 'unchanged', "
        "'COPD signs', ' heart insufficiency', 'loc cardiac']"
    )
    assert parse_groups(text) == [
        Group(("pleural effusion",), ("right", "pleural")),
        Group(("unchanged",), ()),
        Group(("COPD signs", "heart insufficiency"), ("cardiac",)),
    ]


def test_a_label_after_places_with_a_leading_space_still_joins():
    assert parse_groups("['a', 'loc left', ' b', 'c']") == [Group(("a", "b"), ("left",)), Group(("c",), ())]


def test_a_flat_row_may_begin_with_a_place_or_a_space():
    assert parse_groups("['loc left', 'a']") == [Group((), ("left",)), Group(("a",), ())]
    assert parse_groups("[' a', 'loc left']") == [Group(("a",), ("left",))]


def test_bare_nans_are_left_out():
    text = "[nan, ['unchanged'], [], ['vascular hilar enlargement', 'loc hilar']]"
    assert parse_groups(text) == [Group(("unchanged",), ()), Group(("vascular hilar enlargement",), ("hilar",))]
    assert parse_list("['nan', 'a nan b', nan]") == ["nan", "a nan b", None]


@pytest.mark.parametrize(
    "text",
    [
        "nan",
        "",
        "[",
        "['a'",
        "{'a': 1}",
        "__import__('os').getcwd()",
        "[" * 50_000,
        "['a'] * 10",
        "['" + "a" * 200_000 + "']",
    ],
)
def test_what_is_no_list_of_literals_is_not_read(text):
    assert parse_list(text) is None
    assert parse_groups(text) is None


@pytest.mark.parametrize(
    ("label", "parts"),
    [
        ("hemidiaphragm elevation right side", ("hemidiaphragm elevation", (), "right")),
        ("pleural effusion both sides", ("pleural effusion", (), "bilateral")),
        ("hypoexpansion both side", ("hypoexpansion", (), "bilateral")),
        ("atelectasis basal left side", ("atelectasis", ("basal",), "left")),
        ("interstitial pattern bilateral", ("interstitial pattern", (), "bilateral")),
        ("right sided aortic arch", ("right sided aortic arch", (), "")),
        ("pneumonia", ("pneumonia", (), "")),
    ],
)
def test_sides_within_labels_are_taken_out(label, parts):
    assert split_side(label) == parts


def test_a_side_within_a_label_counts_for_that_label_alone():
    group = Group(("pleural effusion left side", "pneumonia"), ("right", "basal"))
    assert places_of(group) == [Place("pleural effusion", ("basal",), "left"), Place("pneumonia", ("basal",), "right")]


def test_left_and_right_are_bilateral_and_special_labels_are_no_findings():
    group = Group(
        ("infiltrates", "normal", "unchanged", "exclude", "suboptimal study", ""), ("left", "right lower lobe")
    )
    assert places_of(group) == [Place("infiltrates", ("right lower lobe",), "bilateral")]


def test_rows_become_labels_and_findings(tmp_path):
    rows = [
        padchest_row("1.png"),
        _said("[['pleural effusion left side'], ['pneumonia', 'loc right lower lobe'], ['normal']]", ImageID="2.png"),
    ]
    prepared = _prepare(tmp_path, rows)
    assert labels_of(prepared) == {
        "0/1.png": {"normal": 1, "pleural effusion": 0, "pneumonia": 0},
        "0/2.png": {"normal": 0, "pleural effusion": 1, "pneumonia": 1},
    }
    assert findings_of(prepared) == [
        ("pleural effusion", "yes", "", "left"),
        ("pneumonia", "yes", "right lower lobe", "right"),
    ]
    assert prepared.manifest.table["age"].to_pylist() == [84, 84]
    assert set(prepared.findings["level"].to_pylist()) == {"study"}


@pytest.mark.parametrize(
    "text",
    [
        "[['unchanged'], ['pneumonia']]",
        "['pneumonia', 'loc left', 'unchanged']",
        "['pneumonia', 'exclude']",
        "[['pneumonia'], nan]",
    ],
)
def test_incomplete_labels_leave_what_is_absent_unknown(tmp_path, text):
    rows = [_said(text, "['pneumonia']", ImageID="1.png"), _said("[['nodule']]", ImageID="2.png")]
    prepared = _prepare(tmp_path, rows)
    assert labels_of(prepared) == {
        "0/1.png": {"nodule": None, "pneumonia": 1},
        "0/2.png": {"nodule": 1, "pneumonia": 0},
    }
    assert prepared.manifest.table["complete"].to_pylist() == [False, True]
    assert sum(prepared.report.noticed.values()) == 1


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"Labels": "nan", "LabelsLocalizationsBySentence": "nan"}, "labels not known (nan)"),
        ({"LabelsLocalizationsBySentence": "[['normal']"}, "labels not known (nan)"),
        ({"Labels": "['exclude']", "LabelsLocalizationsBySentence": "[['exclude']]"}, "excluded by the data set"),
        ({"LabelsLocalizationsBySentence": "[['normal'], ['suboptimal study']]"}, "suboptimal study"),
        ({"Labels": "['']", "LabelsLocalizationsBySentence": "['']"}, "no label"),
        ({"Pediatric": "PED"}, "pediatric"),
        ({"Projection": "L"}, "not frontal: lateral"),
        ({"Projection": "COSTAL"}, "not frontal: costal"),
        ({"Projection": "EXCLUDE"}, "not frontal: EXCLUDE"),
        ({"Projection": "UNK"}, "view not known"),
        ({"ImageID": "../1.png"}, "invalid image name"),
        ({"ImageDir": ".."}, "invalid image name"),
        ({"PatientID": ""}, "no patient"),
    ],
)
def test_what_can_not_be_used_is_dropped_and_counted(tmp_path, row, reason):
    prepared = _prepare(tmp_path, [padchest_row("0.png"), padchest_row("1.png") | row])
    assert prepared.report.dropped == {reason: 1}
    assert counts_hold(prepared)


def test_the_projection_counts_not_the_view_position(tmp_path):
    rows = [
        padchest_row("1.png", ViewPosition_DICOM="LATERAL", Projection="AP_horizontal"),
        padchest_row("2.png", ViewPosition_DICOM="PA", Projection="L"),
    ]
    prepared = _prepare(tmp_path, rows)
    assert (prepared.manifest.column("image"), prepared.manifest.column("view")) == (["0/1.png"], ["AP supine"])


@pytest.mark.parametrize("birth", ["nan", "", "19³0", "1930.5"])
def test_a_year_of_birth_that_is_none_leaves_the_age_unknown(tmp_path, birth):
    assert _prepare(tmp_path, [padchest_row(PatientBirth=birth)]).manifest.table["age"].to_pylist() == [None]


def test_images_are_found_wherever_they_were_unpacked_and_missing_ones_are_counted(tmp_path):
    write_image(tmp_path / "images-224" / "1.png", bits=16)
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "2.png").touch()
    prepared = _prepare(tmp_path, [padchest_row(f"{number}.png") for number in (1, 2, 3)], require_images=True)
    assert prepared.manifest.column("image") == ["images-224/1.png"]
    assert prepared.report.dropped == {"empty image file": 1, "missing image": 1}


def test_the_same_image_in_two_rows_that_disagree_has_unknown_labels(tmp_path):
    prepared = _prepare(tmp_path, [padchest_row("1.png"), _said("[['nodule']]", ImageID="1.png")])
    assert labels_of(prepared) == {"0/1.png": {"nodule": None, "normal": None}}
    assert counts_hold(prepared)


def test_there_is_no_split_of_its_own(tmp_path):
    with pytest.raises(ValueError, match="split must be 'hash'"):
        _prepare(tmp_path, [padchest_row()], split="own")


def test_a_truncated_table_is_refused(tmp_path):
    path = write_csv(tmp_path / PADCHEST_TABLE, [padchest_row(f"{k}.png") for k in range(500)], zipped=True)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"160K_01\.02\.19\.csv\.gz is damaged"):
        padchest.prepare(options(tmp_path, require_images=False))
