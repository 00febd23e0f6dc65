"""The sections of a report, and which of them say what the image shows."""

import re
from typing import NamedTuple

_HEADING = re.compile(
    r"(?:^|\n)[ \t]*([A-Z][A-Z /,()&-]{2,60}|(?:Findings|Impression|Conclusion|Indication|History|Clinical "
    r"(?:history|information|indication)|Comparison|Technique|Examination|Exam|Reason for exam)):"
)
_NOT_OF_THE_IMAGE = re.compile(
    r"INDICATION|HISTORY|COMPARISON|TECHNIQUE|EXAM|REASON|CLINICAL|PROCEDURE|NOTIFICATION|RECOMMENDATION|FINAL REPORT"
    r"|PATIENT|TYPE OF|STUDY|WET READ|DATE|ORDER|VIEWS?$|ATTENDING|DICTATED|SIGNED"
)


class Section(NamedTuple):
    """A part of a report.

    Attributes:
        name: Its heading in upper case; "" for what stands before the first heading.
        start: Where its text begins, after the heading.
        end: Where its text ends.
    """

    name: str
    start: int
    end: int

    @property
    def describes_image(self) -> bool:
        """Whether it says what the image shows, and not why it was taken or how."""
        return _NOT_OF_THE_IMAGE.search(self.name) is None


def find_sections(text: str) -> list[Section]:
    """The sections of a report, in order; a text without headings is one section.

    A heading stands at the start of a line, in capitals or one of the usual words, and ends with a colon. Where there
    are headings, what stands before the first one is no part of the report proper.
    """
    headings = list(_HEADING.finditer(text))
    if not headings:
        return [Section("", 0, len(text))]
    ends = [heading.start() for heading in headings[1:]] + [len(text)]
    return [
        Section(heading.group(1).strip().upper(), heading.end(), end)
        for heading, end in zip(headings, ends, strict=True)
    ]
