"""Where MIMIC-CXR-JPG keeps its files, for it and the sets that annotate it (Chest ImaGenome, MS-CXR)."""

import re
from pathlib import Path

from spf_data.sources.documents import Documents
from spf_data.sources.paths import PathError
from spf_data.sources.report import PrepareReport

# The name that patients have in the manifests of all three: their splits by patient then agree.
PATIENTS = "mimic-cxr"
METADATA = "mimic-cxr-2.0.0-metadata.csv"
SPLIT = "mimic-cxr-2.0.0-split.csv"
REPORTS = ("mimic-cxr-reports.zip", "mimic-cxr-reports")

_NUMBER = re.compile(r"[0-9]{8}")
_DICOM = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{8}){4}")
_VIEWS = {"AP": "AP", "PA": "PA", "LATERAL": "lateral", "LL": "lateral", "RL": "lateral"}


def image_path(subject: str, study: str, dicom: str) -> str:
    """`files/p10/p10000032/s50414267/<dicom>.jpg`.

    Raises:
        PathError: If an identifier is not one of MIMIC-CXR: the path is made of nothing else.
    """
    if not (_NUMBER.fullmatch(subject) and _NUMBER.fullmatch(study) and _DICOM.fullmatch(dicom)):
        raise PathError("invalid identifier", "subject, study and image must be named as MIMIC-CXR names them")
    return f"{_folder(subject)}/s{study}/{dicom}.jpg"


def view(position: str) -> str:
    """The view that `ViewPosition` names; "" where it is empty."""
    position = position.strip()
    return _VIEWS.get(position, position.lower())


class Reports:
    """The reports of MIMIC-CXR, from their zip file or the folder that it unpacks to."""

    def __init__(self, path: Path, report: PrepareReport) -> None:
        """Open the zip file or folder; see `Documents` for what it raises."""
        self._documents = Documents(path, ".txt", report)
        self._report = report

    def text(self, subject: str, study: str) -> str | None:
        """The report of a study, or None, counted, if there is none."""
        content = self._documents.read(f"{_folder(subject)}/s{study}.txt")
        if content is None:
            self._report.notice("study without a report")
            return None
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError:
            self._report.notice("report not in UTF-8, read as Latin-1")
            return content.decode("latin-1")

    def close(self) -> None:
        """Close the zip file."""
        self._documents.__exit__(None, None, None)


def find_reports(folder: Path) -> Path:
    """The reports in a folder of tables.

    Raises:
        FileNotFoundError: If there are none.
    """
    for name in REPORTS:
        if (folder / name).exists():
            return folder / name
    raise FileNotFoundError(f"{folder} holds none of {', '.join(REPORTS)}; name the reports' place")


def _folder(subject: str) -> str:
    return f"files/p{subject[:2]}/p{subject}"
