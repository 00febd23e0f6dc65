import shutil
from functools import cache
from pathlib import Path

import pytest
from spf_data.vocabulary import FOLDER, Vocabulary, load_vocabulary


@cache
def vocabulary() -> Vocabulary:
    return load_vocabulary()


def edited(folder: Path, file: str, old: str, new: str) -> Path:
    copy = folder / "vocabulary"
    shutil.copytree(FOLDER, copy)
    text = (copy / file).read_text()
    assert old in text
    (copy / file).write_text(text.replace(old, new, 1))
    return copy


def test_every_finding_can_be_said():
    composed = set(vocabulary().compositions.values())
    for name in vocabulary().findings:
        mentions = vocabulary().terms.find(name.split())
        said = {mention.term.name for mention in mentions if mention.term.role == "finding"}
        assert name in said | composed


def test_every_place_is_found_by_its_name():
    for place in vocabulary().places:
        mentions = vocabulary().terms.find(place.split())
        assert any(place in mention.term.places for mention in mentions), place


def test_a_finding_may_be_in_the_parts_of_its_places_only():
    assert vocabulary().allows("atelectasis", "lingula")
    assert vocabulary().allows("fracture", "rib")
    assert not vocabulary().allows("atelectasis", "rib")
    assert not vocabulary().allows("cardiomegaly", "base")


def test_larger_places_are_left_out():
    assert vocabulary().within("thoracic spine") == ("thoracic spine", "spine", "bone")
    assert vocabulary().most_specific(["lung", "base", "pleura"]) == ("base", "pleura")


def test_a_finding_is_always_where_it_belongs():
    assert vocabulary().located("cardiomegaly", ()) == ("heart",)
    assert vocabulary().located("pleural thickening", ("apex",)) == ("apex", "pleura")
    assert vocabulary().located("scoliosis", ("lumbar spine",)) == ("lumbar spine",)
    assert vocabulary().located("nodule", ()) == ()


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="place 'knee' is not in the vocabulary"):
        vocabulary().within("knee")
    with pytest.raises(ValueError, match="finding 'gout' is not in the vocabulary"):
        vocabulary().allows("gout", "lung")
    with pytest.raises(ValueError, match="finding 'gout' is not in the vocabulary"):
        vocabulary().located("gout", ())


def test_plural_of_a_pair_is_both_sides():
    def side(phrase: str) -> str:
        (mention,) = vocabulary().terms.find(phrase.split())
        return mention.term.side

    assert [side(phrase) for phrase in ("lung base", "lung bases", "lungs", "ribs", "lingula")] == [
        "",
        "bilateral",
        "",
        "",
        "left",
    ]


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("findings.yaml", "version: 1", "version: 2", "findings.yaml must be a mapping with version: 1"),
        ("findings.yaml", "places: [lung]", "places: [lnug]", "names \\['lnug'\\], which is not defined"),
        ("findings.yaml", "kind: disease", "kind: illness", "kind of .* must be one of .*got 'illness'"),
        ("findings.yaml", "places: [lung]", "palces: [lung]", "names \\['palces'\\]"),
        ("findings.yaml", "name: consolidation", "name: opacity", "name must be given and new, got 'opacity'"),
        ("findings.yaml", "{blunted: [costophrenic angle]}", "{bluntd: [costophrenic angle]}", "\\['bluntd'\\]"),
        ("findings.yaml", "is_in: heart", "is_in: hart", "names \\['hart'\\]"),
        ("anatomy.yaml", "part_of: lung", "part_of: lungs", "names 'lungs', which is no place"),
        ("anatomy.yaml", "region: upper lobe", "region: top", "names 'top', which is no place"),
        ("anatomy.yaml", "[middle lobe, lower lobe]", "[middle lobe, low lobe]", "\\['low lobe'\\]"),
        ("modifiers.yaml", "  moderate:", "  medium:", "\\['medium'\\]"),
        ("context.yaml", "negation_before:", "negation:", "context.yaml must have the lists"),
        ("grammar.yaml", "verbs:", "verb:", "grammar.yaml must have the lists"),
    ],
)
def test_a_mistake_in_a_file_is_named(tmp_path, file, old, new, message):
    with pytest.raises(ValueError, match=message):
        load_vocabulary(edited(tmp_path, file, old, new))


def test_a_word_can_be_added(tmp_path):
    folder = edited(tmp_path, "findings.yaml", "words: [nodule,", "words: [nodule, coin lesion,")
    (mention,) = load_vocabulary(folder).terms.find(["coin", "lesion"])
    assert mention.term.name == "nodule"


def test_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_vocabulary(tmp_path)
