"""The phantom's findings: how often each occurs, and the 57 labels that say where."""

from dataclasses import dataclass

from spf_data.labels import Label, LabelSet, Side

ZONES = ("upper", "middle", "lower")
SIDES: tuple[Side, Side] = ("right", "left")


@dataclass(frozen=True)
class Finding:
    """A kind of finding.

    Attributes:
        name: What a radiologist calls it.
        one_side: Chance that it occurs on the right only; the same for the left only. 0 where it has no side.
        both_sides: Chance that it occurs on both sides; for a finding without a side the chance that it occurs.
        zones: The zones that have labels of their own; one empty string where the labels name no zone.
        bilateral_label: Name of the label for both sides at once; empty where there is none.
        sided: False for the heart and the mediastinum.
    """

    name: str
    one_side: float
    both_sides: float
    zones: tuple[str, ...] = ("",)
    bilateral_label: str = ""
    sided: bool = True


FINDINGS = (
    Finding("consolidation", 0.105, 0.05, ZONES, "bilateral consolidation"),
    Finding("nodule", 0.11, 0.05, ZONES, "bilateral nodules"),
    Finding("interstitial opacity", 0.09, 0.05, ZONES, "bilateral interstitial opacities"),
    Finding("mass", 0.14, 0.01, ZONES),
    Finding("cavity", 0.05, 0.005),
    Finding("calcified granuloma", 0.05, 0.005),
    Finding("pleural effusion", 0.05, 0.05, ("lower",), "bilateral pleural effusions"),
    Finding("apical pneumothorax", 0.05, 0.005, ("upper",)),
    Finding("pneumothorax", 0.05, 0.005, ("lower",)),
    Finding("elevated hemidiaphragm", 0.055, 0.0),
    Finding("basal atelectasis", 0.045, 0.045, ("lower",), "bilateral basal atelectasis"),
    Finding("hilar enlargement", 0.045, 0.045, bilateral_label="bilateral hilar enlargement"),
    Finding("apical pleural thickening", 0.045, 0.045, ("upper",), "bilateral apical pleural thickening"),
    Finding("rib fracture", 0.05, 0.005),
    Finding("bulla", 0.05, 0.01, ("upper",)),
    Finding("subcutaneous emphysema", 0.05, 0.01),
    Finding("enlarged cardiac silhouette", 0.0, 0.10, sided=False),
    Finding("widened mediastinum", 0.0, 0.07, sided=False),
)

# Names that are not simply side + finding, so that the paper's four named labels read as they do there.
_NAMES = {
    ("elevated hemidiaphragm", ""): "elevated {side} hemidiaphragm",
    ("pleural effusion", "lower"): "{side} lower lobe pleural effusion",
    ("pneumothorax", "lower"): "pneumothorax in the {side} lower lobe",
    ("apical pneumothorax", "upper"): "{side} apical pneumothorax",
    ("basal atelectasis", "lower"): "{side} basal atelectasis",
    ("apical pleural thickening", "upper"): "{side} apical pleural thickening",
}


def finding_index(name: str) -> int:
    """Place of the finding called `name` in `FINDINGS`."""
    return [finding.name for finding in FINDINGS].index(name)


def label_set(*, translated: bool) -> LabelSet:
    """The phantom's labels.

    Args:
        translated: Leave out the two labels without a side: the translated anatomy has no heart and no mediastinum.

    Returns:
        57 labels, or 55.
    """
    labels = []
    for finding in FINDINGS:
        if finding.sided:
            labels += _sided_labels(finding)
        elif not translated:
            labels.append(Label(finding.name, finding.name, "none"))
    return LabelSet(tuple(labels))


def _sided_labels(finding: Finding) -> list[Label]:
    labels = []
    for zone in finding.zones:
        default = f"{{side}} {zone} zone {finding.name}" if zone else f"{{side}} {finding.name}"
        name = _NAMES.get((finding.name, zone), default)
        labels += [Label(name.format(side=side), finding.name, side, zone) for side in SIDES]
    if finding.bilateral_label:
        labels.append(Label(finding.bilateral_label, finding.name, "bilateral"))
    return labels
