"""Reports that stay in their files, or in one zip archive, until they are asked for."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from privfin.data.reports import report_text
from privfin.errors import DataError

#: Largest report that is read, in bytes: those of MIMIC-CXR have a few thousand.
LARGEST_REPORT = 2**20


class ReportFiles:
    """Reports by their path below a folder, or inside a zip archive with the same paths.

    The archive is opened once and read member by member, never unpacked.
    """

    def __init__(self, folder: Path, archive: Path | None = None) -> None:
        """Args: ``folder`` holds the files; ``archive``, if given, is read instead.

        Raises:
            DataError: the archive cannot be opened.
        """
        self._folder = folder
        self._archive = archive
        self._lock = Lock()
        self._zip: zipfile.ZipFile | None = None
        if archive is not None:
            try:
                self._zip = zipfile.ZipFile(archive)
            except (OSError, zipfile.BadZipFile) as error:
                raise DataError(f"{archive} cannot be opened ({error}); get it again") from error

    def read(self, name: str) -> str | None:
        """The report at path ``name``, or None if there is none.

        Raises:
            DataError: it cannot be read, is too large, or is not text.
        """
        where = f"{self._archive or self._folder}: {name}"
        try:
            content = self._bytes(name)
        except (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            # zipfile raises RuntimeError for members with a password.
            raise DataError(f"{where} cannot be read ({error}); get it again") from error
        if content is None:
            return None
        if len(content) > LARGEST_REPORT:
            raise DataError(f"{where} is larger than {LARGEST_REPORT} bytes: that is no report")
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{where} is not UTF-8 text") from error

    def _bytes(self, name: str) -> bytes | None:
        if self._zip is None:
            path = self._folder / name
            if not path.is_file():
                return None
            with path.open("rb") as plain:
                return plain.read(LARGEST_REPORT + 1)
        with self._lock:
            try:
                member = self._zip.open(name)
            except KeyError:
                return None
            with member:
                # A bounded read: a small member can claim to unpack into something huge.
                return member.read(LARGEST_REPORT + 1)


@dataclass(frozen=True, slots=True, eq=False)
class StoredReport:
    """The sections of one stored report."""

    files: ReportFiles
    name: str
    sections: Sequence[str]

    def load(self) -> str:
        """The sections' text. Raises DataError if the report or all its sections are gone."""
        report = self.files.read(self.name)
        text = None if report is None else report_text(report, self.sections)
        if text is None:
            raise DataError(f"{self.name} has no {' or '.join(self.sections)} any more")
        return text

    def content(self) -> bytes:
        """The text's bytes."""
        return self.load().encode()
