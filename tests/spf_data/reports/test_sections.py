import pytest
from spf_data.reports.sections import find_sections


def test_text_without_headings_is_one_section():
    (section,) = find_sections("Lungs are clear.")
    assert (section.name, section.start, section.end, section.describes_image) == ("", 0, 16, True)


def test_sections_hold_their_text():
    text = "INDICATION: Cough.\n\nFINDINGS: Clear.\nImpression: Normal."
    assert [(section.name, text[section.start : section.end].strip()) for section in find_sections(text)] == [
        ("INDICATION", "Cough."),
        ("FINDINGS", "Clear."),
        ("IMPRESSION", "Normal."),
    ]


@pytest.mark.parametrize(
    ("heading", "describes_image"),
    [
        ("FINDINGS", True),
        ("IMPRESSION", True),
        ("FINDINGS AND IMPRESSION", True),
        ("CHEST, TWO", True),
        ("INDICATION", False),
        ("CLINICAL HISTORY", False),
        ("COMPARISON", False),
        ("TECHNIQUE", False),
        ("REASON FOR EXAM", False),
        ("RECOMMENDATION(S)", False),
        ("PA AND LATERAL VIEWS", False),
    ],
)
def test_only_some_sections_describe_the_image(heading, describes_image):
    (section,) = find_sections(f"{heading}: Opacity.")
    assert section.describes_image == describes_image


def test_a_colon_inside_a_sentence_is_no_heading():
    assert len(find_sections("FINDINGS: Left lung: clear.")) == 1
