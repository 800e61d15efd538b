"""Where a data holder's ledger lies, where its anchors lie, and that only their owner may read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from privfin.errors import LedgerError

DATABASE = "ledger.sqlite"
SIGNING_KEY = "ledger.key"
FINGERPRINT_KEY = "fingerprint.key"


def ledger_home() -> Path:
    """``PRIVFIN_HOME``, else ``$XDG_DATA_HOME/privfin``, else ``~/.local/share/privfin``."""
    return _place("PRIVFIN_HOME", "XDG_DATA_HOME", ".local/share", "privfin")


def anchors_folder() -> Path:
    """Where anchors lie: ``PRIVFIN_ANCHORS``, else ``$XDG_CONFIG_HOME/privfin/anchors``, else
    ``~/.config/privfin/anchors``. Apart from the home, so that losing the one shows in the other.
    """
    return _place("PRIVFIN_ANCHORS", "XDG_CONFIG_HOME", ".config", "privfin/anchors")


def _place(own: str, shared: str, default: str, below: str) -> Path:
    if given := os.environ.get(own):
        return Path(given).expanduser()
    base = os.environ.get(shared)
    return (Path(base) if base else Path.home() / default) / below


@contextmanager
def disk_errors(what: Path) -> Iterator[None]:
    """Turn a disk that fails into one LedgerError: what cannot be recorded must not go on."""
    try:
        yield
    except OSError as error:
        raise LedgerError(f"cannot use {what}: {error.strerror or error}") from error


def make_private_folder(folder: Path) -> None:
    """Make ``folder`` for its owner alone (0700); one that is there keeps its mode."""
    with disk_errors(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def make_private_file(path: Path, content: bytes) -> None:
    """Write a new file of mode 0600 to the disk.

    Raises:
        LedgerError: it exists, or cannot be written.
    """
    with disk_errors(path):
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())


def check_private(path: Path) -> None:
    """Refuse a file that others may read or write.

    Raises:
        LedgerError: it is missing, or its mode allows more than its owner.
    """
    with disk_errors(path):
        mode = path.stat().st_mode
    if mode & 0o077:
        raise LedgerError(f"others may read or write {path}: run chmod 600 on it, and find out why")
