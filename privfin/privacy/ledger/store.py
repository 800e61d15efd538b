"""The database of a ledger: a table of rows that only grows, and two tables beside it.

SQLite with a write-ahead log and ``synchronous = FULL``: what was committed is on the disk. Who
writes holds the only write lock from before it reads until it commits (``BEGIN IMMEDIATE``).
Triggers stop an accidental UPDATE or DELETE; the chain shows a deliberate one.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from privfin.errors import LedgerError
from privfin.privacy.ledger.chain import Row
from privfin.privacy.ledger.places import check_private, disk_errors

_APPLICATION = 0x5046_4C44  # "PFLD"
_FORMAT = 1
_COLUMNS = "seq, time, kind, body, previous, hash, signature"
_SCHEMA = (
    """CREATE TABLE rows (
        seq INTEGER PRIMARY KEY CHECK (seq > 0), time TEXT NOT NULL, kind TEXT NOT NULL,
        body TEXT NOT NULL, previous TEXT NOT NULL, hash TEXT NOT NULL UNIQUE,
        signature TEXT NOT NULL) STRICT""",
    """CREATE TABLE fingerprints (
        sha256 TEXT PRIMARY KEY NOT NULL, content BLOB NOT NULL) STRICT""",
    """CREATE TABLE places (
        dataset TEXT PRIMARY KEY NOT NULL, source TEXT NOT NULL, root TEXT NOT NULL) STRICT""",
    *(
        f"""CREATE TRIGGER {table}_{action} BEFORE {action} ON {table}
        BEGIN SELECT RAISE(ABORT, 'a ledger only grows'); END"""
        for table in ("rows", "fingerprints", "places")
        for action in ("UPDATE", "DELETE")
    ),
)
WAIT_SECONDS = 60.0
"""How long a writer waits for another one."""


class Store:
    """An open database. Made by :meth:`create` or :meth:`open`."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection

    @classmethod
    def create(cls, path: Path) -> Store:
        """A new, empty database (0600). LedgerError if there is a file already."""
        with disk_errors(path):
            # SQLite gives its log and index files the mode of the database.
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with database_errors(path):
            store = cls(path, _connect(path))
            store._prepare()
            store._connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            store._connection.execute(f"PRAGMA user_version = {_FORMAT}")
            with store.writing():
                for statement in _SCHEMA:
                    store._connection.execute(statement)
        return store

    @classmethod
    def open(cls, path: Path) -> Store:
        """An existing database. LedgerError if it is none of ours or of a newer format."""
        check_private(path)
        with database_errors(path):
            store = cls(path, _connect(path))
            try:
                store._check_format()
            except BaseException:
                store.close()
                raise
            store._prepare()
        return store

    def _check_format(self) -> None:
        if self._pragma("application_id") != _APPLICATION:
            raise LedgerError(f"{self.path} is not a privfin ledger")
        version = self._pragma("user_version")
        if version != _FORMAT:
            raise LedgerError(
                f"{self.path} has format {version}, this privfin reads {_FORMAT}: use the version "
                "of privfin that wrote it"
            )

    def _prepare(self) -> None:
        for setting in ("trusted_schema = OFF", "synchronous = FULL", "fullfsync = ON"):
            self._connection.execute(f"PRAGMA {setting}")
        if self._pragma("journal_mode = WAL") != "wal":
            self.close()
            raise LedgerError(
                f"{self.path} lies where SQLite has no write-ahead log: use a local disk"
            )

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the write lock; commit at the end, undo everything on an error.

        Raises:
            LedgerError: another process holds the lock for too long, or the disk fails.
        """
        with database_errors(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def rows(self, after: int = 0) -> list[Row]:
        """Rows with numbers above ``after``, in order."""
        # Numbers come from this module, so the statement holds no outside text.
        select = f"SELECT {_COLUMNS} FROM rows WHERE seq > ? ORDER BY seq"  # noqa: S608
        with database_errors(self.path):
            return [Row(*found) for found in self._connection.execute(select, (after,))]

    def hash_at(self, seq: int) -> str | None:
        """The hash of row ``seq``, None if there is no such row."""
        with database_errors(self.path):
            select = "SELECT hash FROM rows WHERE seq = ?"
            found = self._connection.execute(select, (seq,)).fetchone()
        return None if found is None else str(found[0])

    def append(self, row: Row) -> None:
        """Add ``row``, inside :meth:`writing`."""
        values = (row.seq, row.time, row.kind, row.body, row.previous, row.hash, row.signature)
        insert = f"INSERT INTO rows ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
        self._connection.execute(insert, values)

    def add_fingerprints(self, content: bytes) -> str:
        """Keep a blob of fingerprints, inside :meth:`writing`; returns its SHA-256."""
        name = hashlib.sha256(content).hexdigest()
        self._connection.execute(
            "INSERT INTO fingerprints VALUES (?, ?) ON CONFLICT DO NOTHING", (name, content)
        )
        return name

    def fingerprints(self, sha256: str) -> bytes | None:
        """A blob by its SHA-256, None if it is not here.

        Raises:
            LedgerError: it was changed.
        """
        with database_errors(self.path):
            select = "SELECT content FROM fingerprints WHERE sha256 = ?"
            found = self._connection.execute(select, (sha256,)).fetchone()
        if found is None:
            return None
        content = bytes(found[0])
        if hashlib.sha256(content).hexdigest() != sha256:
            raise LedgerError(f"the fingerprints {sha256[:16]}… were changed")
        return content

    def fingerprint_names(self) -> list[str]:
        """The SHA-256 of every blob."""
        with database_errors(self.path):
            select = "SELECT sha256 FROM fingerprints ORDER BY sha256"
            return [str(found[0]) for found in self._connection.execute(select)]

    def add_place(self, dataset: str, source: str, root: str) -> None:
        """Keep where a data set lies, inside :meth:`writing`."""
        self._connection.execute(
            "INSERT INTO places VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (dataset, source, root)
        )

    def places(self) -> dict[str, tuple[str, str]]:
        """Source and root of every data set."""
        with database_errors(self.path):
            select = "SELECT dataset, source, root FROM places"
            found = self._connection.execute(select)
            return {str(name): (str(source), str(root)) for name, source, root in found}

    def integrity_problems(self) -> list[str]:
        """What SQLite finds wrong with the file."""
        with database_errors(self.path):
            found = self._connection.execute("PRAGMA integrity_check").fetchall()
        return [str(line) for (line,) in found if line != "ok"]

    def _pragma(self, name: str) -> object:
        return self._connection.execute(f"PRAGMA {name}").fetchone()[0]


@contextmanager
def database_errors(path: Path) -> Iterator[None]:
    """Turn an error of SQLite into one LedgerError: what cannot be recorded must not go on."""
    try:
        yield
    except sqlite3.Error as error:
        if "locked" in str(error) or "busy" in str(error):
            raise LedgerError(
                f"another process holds {path} since {WAIT_SECONDS:.0f} s: try again when it is "
                "done"
            ) from error
        raise LedgerError(f"{path} cannot be used: {error}") from error


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=WAIT_SECONDS, isolation_level=None
    )
