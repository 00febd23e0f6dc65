"""The page: what is on it, and its template filled in."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import jinja2
import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.special import expit
from spf_data.dataset import XrayDataset

from spf_net.calibration import reliability_curve
from spf_net.curves import curves
from spf_net.examples import Example
from spf_net.html_report.charts import SIDE, Chart, precision_recall_chart, reliability_chart, roc_chart
from spf_net.run_evaluation import RunEvaluation
from spf_net.tables import (
    METRIC_NOTES,
    label_table,
    methods_table,
    run_label_table,
    settings_table,
    source_tables,
    subgroup_table,
)

# Labels with curves of their own, and the side of a picture: what keeps the file small.
CURVE_LABELS = 5
PICTURE_SIDE = 256


def render_report(
    title: str, summary: Sequence[str], runs: Sequence[RunEvaluation], dataset: XrayDataset, examples: Sequence[Example]
) -> str:
    """An evaluation as HTML: one file without scripts that loads nothing, every text in it escaped.

    Args:
        title: Of the page.
        summary: Sentences about data and versions.
        runs: At least one.
        dataset: What they were evaluated on.
        examples: From `spf_net.examples.make_examples`.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = _data_uri
    return environment.get_template("report.html").render(
        title=title,
        summary=summary,
        methods=[methods_table(runs), *source_tables(runs)],
        metric_notes=METRIC_NOTES,
        charts=_charts(runs, dataset.label_set.names),
        side=SIDE,
        names=[run.name for run in runs],
        examples=examples,
        subgroups=subgroup_table(runs),
        labels=_label_tables(runs, dataset),
        settings=settings_table(runs),
    )


def _label_tables(runs: Sequence[RunEvaluation], dataset: XrayDataset) -> list[object]:
    comparison = [label_table(runs, dataset.label_set)] if len(runs) > 1 else []
    return [*comparison, *(run_label_table(run, dataset.label_set) for run in runs)]


def _charts(runs: Sequence[RunEvaluation], labels: Sequence[str]) -> Mapping[str, list[Chart]]:
    """By heading: all labels pooled, then those with the most positives."""
    names = [run.name for run in runs]
    positives = (runs[0].labels == 1).sum(axis=0)
    most = [int(index) for index in np.argsort(-positives, kind="stable")[:CURVE_LABELS] if positives[index] > 0]
    groups = {"all labels pooled": list(range(len(labels))), **{labels[index]: [index] for index in most}}
    roc, precision_recall = [], []
    for title, columns in groups.items():
        drawn = [curves(run.scores[:, columns], run.labels[:, columns]) for run in runs]
        roc.append(roc_chart(title, names, drawn))
        precision_recall.append(precision_recall_chart(title, names, drawn))
    reliability = [reliability_curve(expit(run.scores.astype(np.float64)).ravel(), run.labels.ravel()) for run in runs]
    return {
        "ROC curves": roc,
        "Precision-recall curves": precision_recall,
        "Reliability": [reliability_chart("all labels pooled", names, reliability)],
    }


def _data_uri(pixels: npt.NDArray[np.uint8]) -> str:
    """A picture, uint8 (S, S) or (S, S, 3), as a PNG within its address."""
    picture = Image.fromarray(pixels)
    if picture.width > PICTURE_SIDE:
        picture = picture.resize((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
