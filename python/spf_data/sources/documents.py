"""Many small files (reports, scene graphs) in a folder, a zip or a tar file, read one by one and never extracted."""

import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from types import TracebackType

from spf_data.sources.report import PrepareReport

# The largest scene graph is below 1 MB. A larger document is a mistake, or an attack.
MAX_DOCUMENT = 16_000_000


class Documents:
    """The files with a certain suffix in a folder, zip or tar file. Their names are looked up, never written to.

    Damaged, encrypted, too large or doubled documents are left out, and `report` counts them.
    """

    def __init__(self, path: Path, suffix: str, report: PrepareReport) -> None:
        """Open `path`.

        Args:
            path: A folder, or a zip, tar, tgz or tar.gz file.
            suffix: How the names of the documents end.
            report: Counts what is left out.

        Raises:
            FileNotFoundError: If there is nothing at `path`.
            ValueError: If it is neither folder, zip nor tar file, or damaged as a whole.
        """
        self._path = path
        self._suffix = suffix
        self._report = report
        self._zip: zipfile.ZipFile | None = None
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist")
        if path.is_dir() or path.name.endswith((".tar", ".tgz", ".tar.gz")):
            return
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise ValueError(f"{path} is not a folder, tar or zip file, or is damaged: {error}") from error

    def __enter__(self) -> "Documents":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._zip is not None:
            self._zip.close()

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        """Name and content of each document, in alphabetical order of the names (tar: in the file's order)."""
        if self._zip is not None:
            yield from self._iterate_names(sorted(self._zip.namelist()))
        elif self._path.is_dir():
            yield from self._iterate_names(self._walk())
        else:
            yield from self._iterate_tar()

    def read(self, name: str) -> bytes | None:
        """Content of the document called `name`, or None if there is none that can be read.

        Raises:
            ValueError: If the documents are in a tar file, which can only be read from beginning to end.
        """
        if self._zip is not None:
            return self._read_zip(self._zip, name)
        if not self._path.is_dir():
            raise ValueError(f"{self._path} must be a folder or a zip file to look up single documents")
        return self._read_file(name)

    def _iterate_names(self, names: list[str]) -> Iterator[tuple[str, bytes]]:
        previous = ""
        for name in names:
            if not self._wanted(name):
                continue
            if name == previous:
                self._report.notice("document twice in its archive")
                continue
            previous = name
            content = self.read(name)
            if content is not None:
                yield name, content

    def _wanted(self, name: str) -> bool:
        # macOS puts a "._" file beside each file that it packs.
        return name.endswith(self._suffix) and not PurePosixPath(name).name.startswith("._")

    def _walk(self) -> list[str]:
        return sorted(
            (Path(folder) / name).relative_to(self._path).as_posix()
            for folder, _, files in os.walk(self._path)
            for name in files
        )

    def _read_file(self, name: str) -> bytes | None:
        root = self._path.resolve()
        try:
            path = (root / name).resolve()
            if not path.is_relative_to(root):
                self._report.notice("document outside its folder")
                return None
            if not path.is_file():
                return None
            with path.open("rb") as opened:
                return self._limited(opened.read(MAX_DOCUMENT + 1))
        except (OSError, ValueError, RuntimeError):
            self._report.notice("unreadable document")
            return None

    def _read_zip(self, archive: zipfile.ZipFile, name: str) -> bytes | None:
        try:
            member = archive.getinfo(name)
        except KeyError:
            return None
        if member.flag_bits & 1:
            self._report.notice("encrypted document")
            return None
        try:
            with archive.open(member) as opened:
                return self._limited(opened.read(MAX_DOCUMENT + 1))
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError):
            self._report.notice("unreadable document")
            return None

    def _iterate_tar(self) -> Iterator[tuple[str, bytes]]:
        seen: set[str] = set()
        try:
            with tarfile.open(self._path) as archive:
                for member in archive:
                    if not self._wanted(member.name):
                        continue
                    if not member.isreg():
                        self._report.notice("document is a link")
                    elif member.name in seen:
                        self._report.notice("document twice in its archive")
                    else:
                        seen.add(member.name)
                        opened = archive.extractfile(member)
                        content = self._limited(opened.read(MAX_DOCUMENT + 1)) if opened else None
                        if content is not None:
                            yield member.name, content
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{self._path} is not a tar file, or is damaged: {error}") from error

    def _limited(self, content: bytes) -> bytes | None:
        if len(content) > MAX_DOCUMENT:
            self._report.notice("document too large")
            return None
        return content
