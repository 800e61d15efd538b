"""One thing that was checked, and reading files to check them."""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from privfin.errors import UserInputError

#: Of a file that is read whole: a report, a page, a manifest.
MAX_BYTES = 2**28


@dataclass(frozen=True)
class Check:
    """What was found out about one thing.

    Attributes:
        subject: what was looked at: a file's name, or a word such as ``signature``.
        holds: False if something is wrong, also if it could not be read; None if there was nothing
            to check it against, and ``words`` says why.
        words: one printable line.
    """

    subject: str
    holds: bool | None
    words: str

    def __post_init__(self) -> None:
        # What is reported may come from a forged file: nothing of it may steer a terminal.
        for name in ("subject", "words"):
            line = " ".join(getattr(self, name).split())
            shown = "".join(one if one.isprintable() else "?" for one in line)
            object.__setattr__(self, name, shown)


def read_whole(path: Path) -> bytes | None:
    """The bytes of a file, None if there is none.

    Raises:
        UserInputError: it is no plain file, too large, or cannot be read.
    """
    if not _is_there(path):
        return None
    with _opened(path) as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise UserInputError(f"{path.name} is too large: more than {MAX_BYTES} bytes")
    return content


def sha256_of(path: Path) -> str | None:
    """SHA-256 of a file of any size, hexadecimal; None if there is no file.

    Raises:
        UserInputError: it is no plain file, or cannot be read.
    """
    if not _is_there(path):
        return None
    with _opened(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. UserInputError if there is none."""
    content = read_whole(path)
    if content is None:
        raise UserInputError(f"{path.name} is missing")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserInputError(f"{path.name} cannot be read as JSON") from error
    if not isinstance(found, dict):
        raise UserInputError(f"{path.name} is not a JSON object")
    return found


def _is_there(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise UserInputError(f"{path.name} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(mode):  # reading a pipe could wait for ever
        raise UserInputError(f"{path.name} is not a file")
    return True


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    try:
        with path.open("rb") as stream:
            yield stream
    except OSError as error:
        raise UserInputError(f"{path.name} cannot be read: {error.strerror}") from error
