"""The lines of the cxr-zones table: heads, and what is done to their maps."""

from dataclasses import dataclass
from typing import Literal

from spf_net.heads import HeadConfig

Frame = Literal["image", "lungs"]
FRAMES: tuple[Frame, ...] = ("image", "lungs")
FLIPS = (0.0, 0.5)
# As many numbers a map as the 4x4 grid has cells.
CODE = 16
HOG = "HOG + logistic regression"
CHOSEN_SPF, CHOSEN_RIVAL = "SPF, chosen inside", "rival, chosen inside"


def _spf(**settings: object) -> HeadConfig:
    return HeadConfig(name="spf", code_size=CODE, **{"activation": None, "reconstruction_weight": 0.0} | settings)  # type: ignore[arg-type]


RIVALS: dict[str, HeadConfig] = {
    "average pooling": HeadConfig(name="average_pooling"),
    "square pooling": HeadConfig(name="square_pooling"),
    "4x4 pooling + flatten": HeadConfig(name="adaptive_flatten", grid=4),
    "8x8 pooling + flatten": HeadConfig(name="adaptive_flatten", grid=8),
    "plain flatten": HeadConfig(name="flatten"),
    "DCT codes, frozen": HeadConfig(name="dct", code_size=CODE),
}
SPF: dict[str, HeadConfig] = {
    "SPF with decoders (the paper's)": _spf(activation="relu", reconstruction_weight=1.0),
    "SPF, random start": _spf(),
    "SPF, frozen random": _spf(frozen=True),
    "SPF, grid start": _spf(init="grid"),
    "SPF, DCT start": _spf(init="dct"),
}
HEADS = RIVALS | SPF
# What is fitted on maps of two strides together, in the lung frame with flips alone.
TWO_LEVELS = ("4x4 pooling + flatten", "SPF, random start")


@dataclass(frozen=True)
class Line:
    """One line of the table.

    Attributes:
        head: A name of `HEADS`, or another word for what is measured.
        frame: What fills the maps: the whole image, or the box around both lungs; "any" where each fold chose.
        flip: Probability of a flip that swaps the labels; none where each fold chose.
        levels: Strides of the maps; empty where there are none.
    """

    head: str
    frame: Frame | Literal["any"]
    flip: float | None
    levels: tuple[int, ...] = (16,)
