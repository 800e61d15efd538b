"""Writing files so that nothing is ever half-written."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from privfin.errors import UserInputError


@contextmanager
def clear_disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk or a forbidden folder into one clear line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserInputError(
                f"no space left on the disk while writing {path}: free some space and try again "
                "(a run that had started goes on with --resume)"
            ) from error
        raise UserInputError(f"cannot write {path}: {error.strerror}") from error


def cache_folder() -> Path | None:
    """``PRIVFIN_CACHE``, else ``~/.cache/privfin``; None if that is set to "": nothing is kept."""
    given = os.environ.get("PRIVFIN_CACHE")
    if given is not None and not given.strip():
        return None
    return Path(given).expanduser() if given else Path.home() / ".cache" / "privfin"


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole: to a temporary file first, then renamed over ``path``.

    Raises:
        UserInputError: the disk is full or the folder cannot be written; ``path`` is as before.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with clear_disk_errors(path):
        try:
            with temporary.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()


def write_json(path: Path, content: Any) -> None:
    """Write JSON that any reader takes: infinities as ``"inf"``, not-a-number as null."""
    text = json.dumps(jsonable(content), indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode())


def jsonable(value: Any) -> Any:
    """The same value with NaN as None, infinities as text, tuples as lists, keys as text."""
    if isinstance(value, dict):
        return {str(k): jsonable(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, Path):
        return str(value)
    return value
