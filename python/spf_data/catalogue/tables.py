"""A catalogue's counts as tables in Markdown; docs/catalogue.md holds those of two public data sets."""

from collections.abc import Iterable, Sequence

from spf_data.catalogue.catalogue import Catalogue
from spf_data.catalogue.counting import Count
from spf_data.catalogue.places import Combination
from spf_data.splits import PARTS

_NONE = Count(0, 0, 0)
_SIDES = ("right", "left", "bilateral")


def label_table(catalogue: Catalogue) -> str:
    """The labels: how often they are said as they are, and on how many images they are present in each part."""
    whole = catalogue.present()
    of_parts = [catalogue.present(part) for part in PARTS]
    rows = []
    for place in catalogue.selection.chosen:
        name = catalogue.rules.name(place)
        said = catalogue.counts.get(place, _NONE)
        numbers = [said.images, said.patients, whole[name].images, whole[name].patients]
        numbers += [found[name].images for found in of_parts]
        rows.append([f"{name} *" if place in catalogue.rules.always else name, *_written(numbers)])
    header = ["label", "images as said", "patients", "images present", "patients", *PARTS]
    return _table(header, rows)


def part_table(catalogue: Catalogue) -> str:
    """The parts of the split: images and patients, all and those with a label that is present."""
    rows = []
    for part in PARTS:
        numbers = catalogue.manifest.rows()[part]
        patients = catalogue.manifest.column("patient")
        some = catalogue.any_present(part)
        counts = [len(numbers), len({patients[row] for row in numbers}), some.images, some.patients]
        rows.append([part, *_written(counts)])
    return _table(["part", "images", "patients", "images with a label present", "patients"], rows)


def place_table(catalogue: Catalogue, minimum_images: int) -> str:
    """Findings by place, as said: images on the right / on the left / on both sides.

    Args:
        catalogue: Whose counts.
        minimum_images: With a side, that a finding must at least have to be in the table.
    """
    counts, rules = catalogue.counts, catalogue.rules
    regions = ["", *rules.regions]
    rows = []
    for finding in sorted({place.finding for place in counts}):
        kind = rules.vocabulary.findings[finding].kind
        sided = [counts.get(Combination(finding, side, ""), _NONE).images for side in _SIDES]
        if kind in ("device", "technical") or sum(sided) < minimum_images:
            continue
        cells = [_cell(counts.get(Combination(finding, side, region), _NONE) for side in _SIDES) for region in regions]
        without = counts.get(Combination(finding, "", ""), _NONE).images
        rows.append((-sum(sided), [finding, cells[0], f"{without:,}", *cells[1:]]))
    header = ["finding", "anywhere", "no side", *rules.regions.values()]
    return _table(header, [row for _, row in sorted(rows)])


def _cell(counts: Iterable[Count]) -> str:
    images = [count.images for count in counts]
    return " / ".join(_written(images)) if any(images) else ""


def _written(numbers: Sequence[int]) -> list[str]:
    return [f"{number:,}" for number in numbers]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---", *["--:" for _ in header[1:]]], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
