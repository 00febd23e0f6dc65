"""The tables of the study as Markdown, from its results as plain values; what follows from them a person writes."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from spf_net.evaluation import Estimate
from spf_net.report import format_estimate, markdown_table
from spf_net.study.plots import TITLES, variant_name
from spf_net.study.statistics import MACRO_AUROC, PAIR_ACCURACY, SIDE_AUC
from spf_net.study.zone_results import ALL, COVID, NIH

_QUESTIONS = {
    "chosen inside": "SPF against its rivals, each free to choose head, frame, flips and rate inside the folds",
    "best rival": "SPF against the best rival on the same maps (the best on the scored NIH images: in its favour)",
    "average pooling": "SPF against average pooling",
    "square pooling": "SPF against square pooling",
    "HOG": "SPF against HOG + logistic regression",
    "both levers": "Each head, lung frame and flips against neither",
    "two levels": "Strides 16 and 32 together against stride 16",
    "pre-training": "Frozen linear codes: pre-trained on all images but the test part's patients, against untrained",
}


def page(phantom: Mapping[str, Any] | None, zones: Mapping[str, Any] | None, command: str) -> str:
    """The whole page.

    Args:
        phantom: What `spf_net.study.phantom.run` returns, if there is that part.
        zones: What `spf_net.study.zone_results.results` returns, if there is that part.
        command: What makes these results.
    """
    parts = [
        "# Where does SPF win? The numbers",
        f"Made by `{command}`. Nothing here is the paper's data: heads on maps of a frozen EfficientNet-Lite0 "
        "(ImageNet), a 1x1 convolution, and one dense layer. Intervals are the middle 95 % of resamples of the test "
        "patients, the same ones for all heads, of the mean over the seeds; ± is the deviation over the seeds. A win "
        "is a paired interval above 0, a loss one below; all else is a tie.",
    ]
    if phantom is not None:
        parts += _phantom_parts(phantom)
    if zones is not None:
        parts += _zone_parts(zones)
    return "\n\n".join(parts) + "\n"


def _phantom_parts(results: Mapping[str, Any]) -> list[str]:
    parts = ["## Phantom", _settings(results["settings"]), "![Measures along three axes](phantom.png)"]
    for axis, points in results["axes"].items():
        parts.append(f"### {axis.capitalize()}")
        for measure, title in TITLES.items():
            header = [f"{title}, by {axis}", *(f"{point['value']:,}" for point in points)]
            rows = [
                [head, *(_cell(point["heads"][head]["measures"][measure]) for point in points)]
                for head in results["heads"]
            ]
            parts.append(markdown_table(header, rows))
        parts.append("SPF minus the best rival of each column (the best on the scored images: in its favour):")
        parts.append(_phantom_differences(axis, points))
    # The middle setting is a point of every axis.
    distinct = {str(point["setting"]): point for points in results["axes"].values() for point in points}.values()
    count = Counter(row["verdict"] for point in distinct for row in point["comparisons"])
    heads = [head for point in distinct for head in point["heads"].values()]
    fits, last = sum(len(head["epochs"]) for head in heads), sum(head["still improving"] for head in heads)
    parts.append(f"{last} of {fits} fits had their best epoch last: more epochs might have made them better.")
    return [*parts, _multiple(count)]


def _phantom_differences(axis: str, points: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [f"{point['value']:,}", row["first"], row["second"], TITLES[row["measure"]], _difference(row), row["verdict"]]
        for point in points
        for row in point["comparisons"]
    ]
    return markdown_table([axis, "SPF", "best rival", "measure", "difference (95 % CI)", "verdict"], rows)


def _zone_parts(results: Mapping[str, Any]) -> list[str]:
    data = results["data"]
    counts = ", ".join(
        f"{name} {each['images']} of {each['patients']} patients" for name, each in data["sources"].items()
    )
    comparisons = results["comparisons"]
    parts = [
        "## cxr-zones",
        f"{data['images']} images, {data['labelled']} with labels ({counts}); {data['without lung boxes']} of these "
        "have no lung boxes and keep the image's frame; rows that could not be read: "
        f"{sum(data['dropped'].values())}. AUROCs count pairs of images of one fold. NIH macro AUROC and pair accuracy "
        "decide; the COVID source alone is described and decides nothing.",
        _settings(results["settings"]),
        "![Heads, frames and flips](cxr-zones.png)",
        "![SPF minus the best rival](differences.png)",
        "### All lines",
        _zone_lines(results["lines"]),
        "### What the folds chose",
        _choices(results["lines"]),
        "### Differences",
    ]
    for question, title in _QUESTIONS.items():
        rows = [row for row in comparisons if row["question"] == question]
        if rows:
            parts += [f"**{title}**", _zone_differences(rows)]
    return [*parts, _multiple(Counter(row["verdict"] for row in comparisons))]


def _zone_lines(lines: Sequence[Mapping[str, Any]]) -> str:
    columns = [(NIH, MACRO_AUROC), (NIH, PAIR_ACCURACY), (NIH, SIDE_AUC), (ALL, MACRO_AUROC), (ALL, PAIR_ACCURACY)]
    names = {NIH: "NIH", ALL: "all", COVID: "COVID"}
    columns.append((COVID, MACRO_AUROC))
    header = [
        "head",
        "maps",
        *(f"{names[source]} {TITLES[measure]}" for source, measure in columns),
        "parameters",
        "s a fit",
    ]
    rows = [
        [
            line["head"] + (", two levels" if line["levels"] == [16, 32] else ""),
            variant_name(line["frame"], line["flip"]),
            *(_cell(line["measures"][source][measure]) for source, measure in columns),
            f"{line['parameters']:,}" if line["parameters"] else "",
            f"{line['seconds']:.1f}" if line["seconds"] else "",
        ]
        for line in lines
    ]
    return markdown_table(header, rows)


def _choices(lines: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [line["head"], str(number), chosen["head"], variant_name(chosen["frame"], chosen["flip"])]
        for line in lines
        for number, chosen in enumerate(line["chosen"], start=1)
    ]
    return markdown_table(["family", "fold", "head", "maps"], rows)


def _zone_differences(rows: Sequence[Mapping[str, Any]]) -> str:
    table = [
        [
            row["first"]["head"],
            row["second"]["head"],
            variant_name(row["first"]["frame"], row["first"]["flip"]),
            "NIH" if row["source"] == NIH else row["source"],
            TITLES[row["measure"]],
            _difference(row),
            row["verdict"],
        ]
        for row in rows
    ]
    return markdown_table(["first", "second", "maps", "images", "measure", "difference (95 % CI)", "verdict"], table)


def _multiple(verdicts: Mapping[str, int]) -> str:
    total = sum(verdicts.values())
    return (
        f"{total} differences: {verdicts.get('win', 0)} wins, {verdicts.get('tie', 0)} ties, "
        f"{verdicts.get('loss', 0)} losses. The intervals are not corrected for their number: if all differences were "
        f"0, about {0.025 * total:.0f} would count as wins and as many as losses."
    )


def _settings(settings: Mapping[str, Any]) -> str:
    return "Settings: " + ", ".join(f"{name} {value}" for name, value in settings.items()) + "."


def _cell(measure: Mapping[str, Any]) -> str:
    if measure["value"] is None:
        return "undefined"
    return f"{format_estimate(Estimate(measure['value'], measure['low'], measure['high']))} ± {measure['spread']:.3f}"


def _difference(row: Mapping[str, Any]) -> str:
    if row["value"] is None:
        return "undefined"
    return f"{row['value']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})"
