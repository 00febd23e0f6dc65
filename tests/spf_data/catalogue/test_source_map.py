import pytest
from spf_data.catalogue.source_map import FILES, SourceRow, Unread, by_side, load_source_map, reader_of
from spf_data.sources import mimic, nih
from spf_data.sources.imagenome import REGIONS
from spf_data.vocabulary import FOLDER

from .helpers import vocabulary


def _read(source, finding, anatomy="", side="", polarity="yes", modifiers=""):
    unread = Unread()
    row = SourceRow(finding, polarity, anatomy, side, modifiers)
    found = reader_of(source, vocabulary()).read(row, 3, unread)
    return [str(one).split("|", 1)[1].rstrip("|") for one in found], unread


@pytest.mark.parametrize(
    ("finding", "anatomy", "side", "expected"),
    [
        ("infiltrates", "basal", "right", ["yes|opacity|base|right"]),
        ("infiltrates", "basal bilateral|perihilar", "bilateral", ["yes|opacity|base+perihilar|bilateral"]),
        ("pleural effusion", "pleural", "left", ["yes|pleural effusion|pleura|left"]),
        ("pleural effusion", "left lower lobe|pleural", "left", ["yes|pleural effusion|lower lobe+pleura|left"]),
        ("loculated fissural effusion", "", "", ["yes|pleural effusion|fissure+pleura"]),
        ("pneumonia", "middle lobe", "", ["yes|pneumonia|middle lobe|right"]),
        ("pneumonia", "lingula|subsegmental", "", ["yes|pneumonia|lingula|left"]),
        ("pneumonia", "middle lobe|bronchi", "", ["yes|pneumonia|bronchus+middle lobe|right"]),
        ("nodule", "", "", ["yes|nodule"]),
        ("apical pleural thickening", "pleural", "", ["yes|pleural thickening|apex+pleura"]),
        ("hydropneumothorax", "", "left", ["yes|pleural effusion|pleura|left", "yes|pneumothorax|pleura|left"]),
        ("callus rib fracture", "posterior rib|rib", "right", ["yes|fracture|rib|right"]),
        ("cardiomegaly", "cardiac", "left", ["yes|cardiomegaly|heart"]),
        ("hemidiaphragm elevation", "diaphragm|basal", "right", ["yes|elevated diaphragm|diaphragm|right"]),
    ],
)
def test_padchest_s_labels_and_places(finding, anatomy, side, expected):
    assert _read("padchest", finding, anatomy, side)[0] == expected


def test_no_place_gets_the_side_of_another():
    found, _ = _read("padchest", "infiltrates", "right upper lobe|left lower lobe", "bilateral")
    assert found == ["yes|opacity|lower lobe|left", "yes|opacity|upper lobe|right"]
    found, _ = _read("padchest", "infiltrates", "middle lobe|left lower lobe", "left")
    assert found == ["yes|opacity|lower lobe|left", "yes|opacity|middle lobe|right"]
    found, _ = _read("padchest", "infiltrates", "right upper lobe|left lower lobe|basal", "bilateral")
    assert found == ["yes|opacity|base", "yes|opacity|lower lobe|left", "yes|opacity|upper lobe|right"]


@pytest.mark.parametrize(
    ("placed", "side", "expected"),
    [
        ([], "", [("", ())]),
        ([], "left", [("left", ())]),
        ([("", "base")], "bilateral", [("bilateral", ("base",))]),
        ([("left", "base"), ("", "hilum")], "left", [("left", ("base", "hilum"))]),
        ([("left", "base")], "bilateral", [("bilateral", ()), ("left", ("base",))]),
        ([("left", "base"), ("right", "apex")], "bilateral", [("left", ("base",)), ("right", ("apex",))]),
        ([("right", "middle lobe")], "left", [("left", ()), ("right", ("middle lobe",))]),
    ],
)
def test_places_by_side(placed, side, expected):
    assert by_side(placed, side) == expected


def test_what_is_not_read_is_counted():
    found, unread = _read("padchest", "goiter")
    assert found == []
    assert unread.findings == {"goiter": 3}
    _, unread = _read("padchest", "pneumonia", "paracardiac|lobar|pleural")
    assert unread.places == {"paracardiac": 3}
    assert unread.not_there == {("pneumonia", "pleura"): 3}
    _, unread = _read("padchest", "cardiomegaly", "cardiac", "left")
    assert unread.sides == {"cardiomegaly": 3}
    _, unread = _read("open-i", "sarcoidosis", "lung|anterior")
    assert (unread.findings, unread.places) == ({"sarcoidosis": 3}, {"anterior": 3})


def test_open_i_s_codes_are_put_together_again():
    assert _read("open-i", "opacity", "lung|base", "left", modifiers="mild")[0] == ["yes|opacity|base|left|mild"]
    assert _read("open-i", "thickening", "pleura|apex", "right")[0] == ["yes|pleural thickening|apex+pleura|right"]
    assert _read("open-i", "costophrenic angle", "", "left", modifiers="blunted")[0] == [
        "yes|blunted costophrenic angle|costophrenic angle|left"
    ]
    assert _read("open-i", "aorta, thoracic", modifiers="tortuous")[0] == ["yes|tortuous aorta|aorta"]


def test_every_region_of_chest_imagenome_is_a_place_on_its_side():
    for region in REGIONS:
        side = "" if region == "right atrium" else next((s for s in ("left", "right") if s in region), "")
        found, unread = _read("chest-imagenome", "lung opacity", region, side, "no")
        assert not unread.places, region
        assert [one.split("|")[0] for one in found] == ["no"]
        assert (found[0].split("|")[3:] or [""])[0] == side
    assert _read("chest-imagenome", "lung opacity", "right lower lung zone", "right")[0] == ["yes|opacity|base|right"]


def test_labels_without_places():
    for label in nih.LABELS:
        assert len(_read("nih", label)[0]) == 1
    unmapped = [label for label in mimic.LABELS if not _read("mimic-cxr", label)[0]]
    assert unmapped == ["Lung Lesion", "No Finding", "Pleural Other"]


def test_a_source_says_what_it_has_words_for():
    assert "elevated diaphragm" not in reader_of("nih", vocabulary()).cores
    assert {"elevated diaphragm", "pneumothorax"} <= reader_of("padchest", vocabulary()).cores
    assert {"elevated diaphragm", "pneumothorax"} <= reader_of("open-i", vocabulary()).cores
    with pytest.raises(ValueError, match=r"source must be one of .*, got 'own'"):
        reader_of("own", vocabulary())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  volume loss: [volume loss]", "  volume los: [volume loss]", r"padchest\.yaml names \['volume los'\]"),
        ("  retrocardiac: [retrocardiac]", "  retro: [retrocardiac]", r"padchest\.yaml names \['retro'\]"),
        ("  left: [lingula]", "  lefft: [lingula]", r"padchest\.yaml names \['lefft'\]"),
        ("  left: [lingula]", "  left: [lingulla]", r"no findings or places are \['lingulla'\]"),
        ("no_place: [lobar", "no_place: [basal, lobar", r"listed twice: \['basal'\]"),
        ("no_place:", "noplace:", r"padchest\.yaml must have"),
    ],
)
def test_a_misspelling_is_an_error(tmp_path, old, new, message):
    text = (FOLDER / FILES["padchest"]).read_text()
    assert old in text
    (tmp_path / "padchest.yaml").write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=message):
        load_source_map(tmp_path / "padchest.yaml", vocabulary())
