"""Reports of the Open-i collection (Indiana University) with their human MeSH codes, from the archive of XML files."""

import re
import tarfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, cast

from spf_data.findings import Finding, Laterality, Severity
from spf_data.vocabulary import FOLDER, Vocabulary, read_data

# codes that say that there is nothing to code
NO_FINDING = frozenset({"normal", "No Indexing"})
# the largest of the 3,955 reports has 13 kB
_MAX_BYTES = 1_000_000
_SIDES = ("left", "right", "bilateral")


@dataclass(frozen=True)
class OpeniReport:
    """One report.

    Attributes:
        identifier: Such as "CXR1".
        sections: Texts by heading: COMPARISON, INDICATION, FINDINGS, IMPRESSION; "" where the report has none.
        codes: The human MeSH codes ("Opacity/lung/base/left/mild").
        images: File names of its images, without folder and extension.
    """

    identifier: str
    sections: dict[str, str]
    codes: tuple[str, ...]
    images: tuple[str, ...]

    @property
    def text(self) -> str:
        """The report as one text with headings."""
        return "\n\n".join(f"{name}: {text}" for name, text in self.sections.items())


@dataclass(frozen=True)
class OpeniArchive:
    """What an archive held.

    Attributes:
        reports: In the order of the archive.
        dropped: Reason -> number of files not read.
    """

    reports: tuple[OpeniReport, ...]
    dropped: dict[str, int]


def read_archive(path: Path) -> OpeniArchive:
    """Read the reports of `NLMCXR_reports.tgz` without extracting it.

    Raises:
        FileNotFoundError: If there is no such archive.
        tarfile.TarError: If it is not a tar archive.
    """
    reports: dict[str, OpeniReport] = {}
    dropped: dict[str, int] = {}
    with tarfile.open(path, "r:*") as archive:
        for member in archive:
            if not member.isfile():
                continue
            reason = _unwanted(member)
            stream = None if reason else archive.extractfile(member)
            report = _parse(stream.read()) if stream else (reason or "not a regular file")
            if isinstance(report, OpeniReport) and report.identifier in reports:
                report = "duplicate identifier"
            if isinstance(report, OpeniReport):
                reports[report.identifier] = report
            else:
                dropped[report] = dropped.get(report, 0) + 1
    return OpeniArchive(tuple(reports.values()), dropped)


def _unwanted(member: tarfile.TarInfo) -> str:
    if PurePosixPath(member.name).suffix.lower() != ".xml":
        return "not XML"
    return "too large" if member.size > _MAX_BYTES else ""


def _parse(data: bytes) -> OpeniReport | str:
    """The report, or why it is none."""
    try:
        return parse_report(data) or "no identifier"
    except DocumentTypeError:
        return "declares entities"
    except (ET.ParseError, ValueError, LookupError):
        return "broken XML"


def parse_report(data: bytes) -> OpeniReport | None:
    """One XML file of the collection; None where it names no report.

    Raises:
        DocumentTypeError: If it has a document type.
        xml.etree.ElementTree.ParseError: If it is not XML.
        ValueError: If it is in an encoding that the parser does not take.
        LookupError: If its encoding is unknown.
    """
    root = ET.fromstring(data, parser=ET.XMLParser(target=_NoDocumentType()))
    identifier = root.find("uId")
    if identifier is None or not identifier.get("id"):
        return None
    return OpeniReport(
        identifier=str(identifier.get("id")),
        sections={part.get("Label", ""): (part.text or "").strip() for part in root.iter("AbstractText")},
        codes=tuple(code.text.strip() for code in root.findall("MeSH/major") if code.text),
        images=tuple(image.get("id", "") for image in root.iter("parentImage")),
    )


class DocumentTypeError(Exception):
    """A document type may declare entities that fill the memory; the collection's files have none."""


class _NoDocumentType(ET.TreeBuilder):
    def doctype(self, *_: object) -> None:
        raise DocumentTypeError


@dataclass(frozen=True)
class MeshMap:
    """How codes are read (`vocabulary/mesh.yaml`): heads, the places they imply, and the qualifiers."""

    heads: dict[str, dict[str, tuple[str, ...]]]
    place_of_head: dict[str, str]
    places: dict[str, str]
    severities: dict[str, Severity] = field(default_factory=dict)

    def findings(self, codes: tuple[str, ...], vocabulary: Vocabulary) -> list[Finding]:
        """The findings that codes stand for; a code that is not mapped stands for none (see `is_mapped`)."""
        return [finding for code in codes for finding in self._read(code, vocabulary)]

    def is_mapped(self, code: str) -> bool:
        """Whether a code stands for a finding, or says that there is none."""
        return code in NO_FINDING or bool(self._cores(*_split(code)))

    def is_place(self, qualifier: str) -> bool:
        """Whether a qualifier stands for a place."""
        return qualifier.lower() in self.places

    def _cores(self, head: str, qualifiers: list[str]) -> tuple[str, ...]:
        for qualifier, cores in self.heads.get(head, {}).items():
            if not qualifier or qualifier in qualifiers:
                return cores
        return ()

    def _read(self, code: str, vocabulary: Vocabulary) -> Iterator[Finding]:
        head, qualifiers = _split(code)
        named = [self.places[qualifier] for qualifier in qualifiers if qualifier in self.places]
        if head in self.place_of_head:
            named.append(self.place_of_head[head])
        known = {str(vocabulary.places[place].side) for place in named} - {""}
        sides = {qualifier for qualifier in qualifiers if qualifier in _SIDES} or known
        side = "bilateral" if len(sides) > 1 else "".join(sides)
        severity = next((self.severities[word] for word in qualifiers if word in self.severities), "")
        for core in self._cores(head, qualifiers):
            term = vocabulary.findings[core]
            yield Finding(
                kind=term.kind,
                polarity="yes",
                core=core,
                anatomy=vocabulary.located(core, named),
                laterality=cast(Laterality, side) if term.sided else "",
                severity=cast(Severity, severity),
                rule=f"MeSH code {code}",
            )


def _split(code: str) -> tuple[str, list[str]]:
    head, *qualifiers = (re.sub(r"\s+", " ", part.strip().lower()) for part in code.split("/"))
    return head, qualifiers


def load_mesh_map(vocabulary: Vocabulary, path: Path | None = None) -> MeshMap:
    """Read how MeSH codes map to the vocabulary.

    Raises:
        ValueError: If the file names a finding or place that the vocabulary does not have.
    """
    data = _lower_keys(read_data(FOLDER / "mesh.yaml" if path is None else path))
    heads = {
        head: {qualifier: tuple(cores.split("+")) for qualifier, cores in choices.items()}
        for head, choices in data["heads"].items()
    }
    cores = {core for choices in heads.values() for named in choices.values() for core in named}
    places = {*data["places"].values(), *data["place_of_head"].values()}
    unknown = sorted(cores - vocabulary.findings.keys()) + sorted(places - vocabulary.places.keys())
    if unknown:
        raise ValueError(f"mesh.yaml names {unknown}, which the vocabulary does not have")
    return MeshMap(heads, data["place_of_head"], data["places"], data["severities"])


def _lower_keys(data: dict[str, Any]) -> dict[str, Any]:
    """Codes are compared in small letters: the same code occurs in several spellings."""
    return {key.lower(): _lower_keys(value) if isinstance(value, dict) else value for key, value in data.items()}
