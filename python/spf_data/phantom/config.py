"""Settings of the phantom."""

import math
from dataclasses import dataclass, fields
from typing import Literal, get_args

Anatomy = Literal["normal", "translated"]
Mode = Literal["images", "maps"]

SHIFTS = (0.0, 0.03, 0.08)


@dataclass(frozen=True)
class PhantomConfig:
    """Settings of the phantom.

    Raises:
        ValueError: If a value is out of its range.

    Attributes:
        num_images: Number of images; patients have 1 to 3 images each.
        image_size: Height and width in pixels, 64 to 512. Even, so that the midline can fall between two columns.
        shift: Patients are displaced by up to this share of the image's width along both axes: 0, 0.03 or 0.08.
        anatomy: "normal", or "translated": the control in which nothing but position tells the side.
        mode: "images" for radiographs, "maps" for one noisy map a finding, to feed a head without any network.
        noise: Standard deviation of the pixel noise, as a share of the full scale.
        finding_size: Scales the diameter of the findings.
        contrast: Scales the density of the findings.
        seed: Everything follows from it.
    """

    num_images: int = 2000
    image_size: int = 128
    shift: float = 0.03
    anatomy: Anatomy = "normal"
    mode: Mode = "images"
    noise: float = 0.02
    finding_size: float = 1.0
    contrast: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{field.name} must be finite, got {value}")
        if self.num_images < 1:
            raise ValueError(f"num_images must be at least 1, got {self.num_images}")
        if not 64 <= self.image_size <= 512 or self.image_size % 2:
            raise ValueError(f"image_size must be an even number from 64 to 512, got {self.image_size}")
        if self.shift not in SHIFTS:
            raise ValueError(f"shift must be one of {SHIFTS}, got {self.shift}")
        if self.anatomy not in get_args(Anatomy):
            raise ValueError(f"anatomy must be one of {get_args(Anatomy)}, got {self.anatomy!r}")
        if self.mode not in get_args(Mode):
            raise ValueError(f"mode must be one of {get_args(Mode)}, got {self.mode!r}")
        if not 0 <= self.noise <= 1:
            raise ValueError(f"noise must be in [0, 1], got {self.noise}")
        if not 0.5 <= self.finding_size <= 2:
            raise ValueError(f"finding_size must be in [0.5, 2], got {self.finding_size}")
        if not 0 < self.contrast <= 5:
            raise ValueError(f"contrast must be in (0, 5], got {self.contrast}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")
