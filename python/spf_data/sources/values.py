"""Values as the public tables write them: ages, sexes, sides, label values."""

import math
import re
from collections.abc import Iterable

from spf_data.sources.options import Policy
from spf_data.sources.report import PrepareReport

_AGE = re.compile(r"(\d{1,3})(?:\.0*)?([YMWD]?)")
_UNITS_A_YEAR = {"": 1.0, "Y": 1.0, "M": 12.0, "W": 52.18, "D": 365.25}
OLDEST = 120


def parse_age(text: str, report: PrepareReport) -> float | None:
    """Years of "57", "058Y", "011M", "003W" or "020D"; None, counted, for anything else or more than 120 years."""
    text = text.strip()
    if not text:
        return None
    match = _AGE.fullmatch(text)
    years = float(match[1]) / _UNITS_A_YEAR[match[2]] if match else math.inf
    if years > OLDEST:
        report.notice("impossible age, now unknown")
        return None
    return years


def parse_sex(text: str) -> str:
    """The sex "F" or "M", or "" for anything else."""
    text = text.strip().upper()
    return {"FEMALE": "F", "MALE": "M"}.get(text, text if text in ("F", "M") else "")


def parse_label(text: str, uncertain: Policy) -> int | None:
    """1, 0 or None (not known) of "1", "1.0", "0", "-1.0" (uncertain) or "" (not mentioned).

    Raises:
        ValueError: If the text is none of these.
    """
    text = text.strip()
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if number not in (1, 0, -1):
        raise ValueError(f"a label must be 1, 0, -1 or empty, got {text!r}")
    if number == -1:
        return {"unknown": None, "positive": 1, "negative": 0}[uncertain]
    return int(number)


def parse_fractions(texts: Iterable[str], width: float, height: float) -> tuple[float, float, float, float]:
    """Left, top, width and height in pixels, as fractions of an image; NaN where a text is not a number."""
    numbers = []
    for text, size in zip(texts, (width, height, width, height), strict=True):
        try:
            numbers.append(float(text) / size)
        except (ValueError, ZeroDivisionError):
            numbers.append(math.nan)
    x, y, w, h = numbers
    return x, y, w, h


def side_of(texts: Iterable[str]) -> str:
    """The side that the words of the texts name: "left", "right", "bilateral" or ""."""
    words = {word for text in texts for word in text.lower().split()}
    both = {"bilateral", "both"} & words or {"left", "right"} <= words
    if both:
        return "bilateral"
    return "left" if "left" in words else "right" if "right" in words else ""


def side_of_box(x: float, w: float) -> str:
    """The patient's side that a box lies on: the right is on the image's left; "" where it crosses the middle."""
    return "right" if x + w <= 0.5 else "left" if x >= 0.5 else ""
