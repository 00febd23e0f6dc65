"""Two evaluated networks on a made-up data set whose every name tries to break out of the page."""

import numpy as np
from spf_data.dataset import XrayDataset
from spf_data.labels import Label, LabelSet
from spf_net.config import RunConfig, TrainingConfig
from spf_net.evaluation import evaluate_by_source
from spf_net.extractor import ExtractorConfig
from spf_net.heads import HeadConfig
from spf_net.metrics import youden_thresholds
from spf_net.network import build_network
from spf_net.run_evaluation import RunEvaluation
from spf_net.subgroups import evaluate_subgroups

HOSTILE = "\"><script>alert('x')</script><img src=http://example.org/x.png onerror=alert(1)>&amp;"
LABELS = LabelSet(
    (
        Label("right upper opacity", "opacity", "right", "upper"),
        Label("left upper opacity", "opacity", "left", "upper"),
        Label(f"right lower {HOSTILE}", "opacity", "right", "lower"),
        Label("left lower opacity", "opacity", "left", "lower"),
    )
)
IMAGES, SIZE = 60, 32


def dataset() -> XrayDataset:
    random = np.random.default_rng(0)
    boxes = np.array([[0.1, 0.1, 0.3, 0.8], [0.6, 0.1, 0.3, 0.8]], dtype=np.float32)
    return XrayDataset(
        label_set=LABELS,
        images=random.integers(0, 256, (IMAGES, 1, SIZE, SIZE), dtype=np.uint8),
        labels=(random.random((IMAGES, 4)) < 0.4).astype(np.float32),
        patients=np.array([f"patient {number // 2}" for number in range(IMAGES)]),
        sources=np.array(["first", HOSTILE] * (IMAGES // 2)),
        report={},
        lung_boxes=np.tile(boxes, (IMAGES, 1, 1)),
    )


def evaluated(name: str, data: XrayDataset, head: HeadConfig | None = None, seed: int = 0) -> RunEvaluation:
    """A network's run with random scores; it has no validation part, nor has it played the pointing game."""
    extractor, head = ExtractorConfig(widths=(4,), num_maps=3, downsample=8), head or HeadConfig(code_size=2)
    config = RunConfig(extractor=extractor, head=head, training=TrainingConfig(resamples=10, seed=seed))
    random = np.random.default_rng(seed)
    labels = data.labels.numpy()
    scores = (labels + random.normal(size=labels.shape)).astype(np.float32)
    sex = random.choice(["F", "M"], IMAGES)
    thresholds = youden_thresholds(scores, labels)
    return RunEvaluation(
        name=name,
        config=config,
        parameters=1234,
        network=build_network(extractor, head, 1, SIZE, len(LABELS), seed).eval(),
        rows=np.arange(IMAGES),
        scores=scores,
        labels=labels,
        evaluations=evaluate_by_source(scores, labels, LABELS, data.patients, data.sources, 10, 0, thresholds),
        thresholds=thresholds,
        subgroups=evaluate_subgroups(scores, labels, data.patients, {"sex": sex}, 10),
        pointing=None,
        no_pointing="nobody knows",
    )
