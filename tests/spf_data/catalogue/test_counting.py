from spf_data.catalogue.counting import Count, count_combinations
from spf_data.catalogue.source_map import reader_of
from spf_data.catalogue.statements import read_statements

from .helpers import findings_table, label, manifest_of, rules, vocabulary


def _count(manifest, *rows):
    statements = read_statements(manifest, findings_table(*rows), reader_of("padchest", vocabulary()), vocabulary())
    return count_combinations(manifest, statements, rules())


def test_images_studies_and_patients():
    manifest = manifest_of(
        4, study=["a", "a", "b", ""], patient=["x:1", "x:1", "x:1", "x:2"], split=["train", "train", "train", "test"]
    )
    counts = _count(manifest, *((row, "infiltrates", "basal", "left") for row in range(4)))
    assert counts == {label("left|opacity"): Count(4, 3, 2), label("left base|opacity"): Count(4, 3, 2)}


def test_a_combination_counts_as_it_is_said():
    counts = _count(
        manifest_of(4),
        (0, "infiltrates", "basal bilateral", "bilateral"),
        (1, "infiltrates", "basal|apical", "left"),
        (1, "consolidation", "", "", "no"),
        (2, "infiltrates"),
        (3, "infiltrates", "", "left"),
        (3, "infiltrates", "", "left"),
    )
    assert {place: count.images for place, count in counts.items()} == {
        label("left|opacity"): 2,
        label("bilateral|opacity"): 1,
        label("bilateral base|opacity"): 1,
        label("left base|opacity"): 1,
        label("left apex|opacity"): 1,
        label("|opacity"): 1,
    }
    assert next(iter(counts)) == label("left|opacity")


def test_where_a_finding_always_is_is_no_region():
    counts = _count(manifest_of(1), (0, "pleural effusion", "pleural|basal", "left"))
    assert set(counts) == {label("left|pleural effusion"), label("left base|pleural effusion")}
