"""The book behind a ledger: rows, chained and signed, read and appended one writer at a time."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from privfin.errors import LedgerError, UserInputError
from privfin.privacy.ledger.anchors import (
    anchors_of_home,
    check_anchor,
    read_anchor,
    write_anchor,
)
from privfin.privacy.ledger.chain import LedgerHead, Row, check_link, next_row
from privfin.privacy.ledger.keys import SigningKey, make_fingerprint_key, read_fingerprint_key
from privfin.privacy.ledger.places import (
    DATABASE,
    FINGERPRINT_KEY,
    SIGNING_KEY,
    make_private_folder,
)
from privfin.privacy.ledger.state import State
from privfin.privacy.ledger.store import Store

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}")


class LedgerBook:
    """An open ledger's rows and what they add up to. ``Ledger`` says what may be written.

    Every method that writes holds the database's only write lock from its check to its commit, so
    two processes cannot both take what only one may have. Whatever cannot be recorded raises
    LedgerError, and nothing may go on.
    """

    def __init__(self, home: Path, store: Store, key: SigningKey, fingerprint_key: bytes) -> None:
        self.home = home
        self._store = store
        self._key = key
        self._fingerprint_key = fingerprint_key
        self._state = State()
        self._last: Row | None = None

    @classmethod
    def exists(cls, home: Path) -> bool:
        """Whether there is a ledger in ``home``.

        Raises:
            LedgerError: there was one, and it is gone.
        """
        if (home / DATABASE).exists():
            return True
        anchors = anchors_of_home(home)
        if anchors:
            raise LedgerError(
                f"the ledger of {home} is missing: its last anchor is row {anchors[0].head.seq} of "
                f"ledger {anchors[0].head.ledger_id}; put it back "
                "from a safe copy, or from an export with privfin budget recover"
            )
        if (home / SIGNING_KEY).exists():
            raise LedgerError(
                f"the ledger of {home} is missing beside its key: put it back from a safe copy, "
                "or from an export with privfin budget recover"
            )
        return False

    @classmethod
    def create(cls, home: Path, *, name: str) -> Self:
        """A new ledger, its keys and its anchor.

        Args:
            home: the folder; made (0700) if it is not there.
            name: of the data holder, for people.

        Raises:
            LedgerError: there is one, or there was one that is gone, or the disk fails.
            UserInputError: a name of another form.
        """
        check_name(name, "a data holder")
        if cls.exists(home):
            raise LedgerError(f"{home} has a ledger already: see privfin budget show")
        make_private_folder(home)
        key = SigningKey.make(home / SIGNING_KEY)
        fingerprint_key = make_fingerprint_key(home / FINGERPRINT_KEY)
        ledger = cls(home, Store.create(home / DATABASE), key, fingerprint_key)
        body = {"ledger": secrets.token_hex(16), "name": name, "public_key": key.public}
        with ledger._writing():
            ledger._append("created", body)
        return ledger

    @classmethod
    def open(cls, home: Path) -> Self:
        """The ledger in ``home``, checked: its chain, its key, and its anchor.

        Raises:
            LedgerError: there is none, or it was changed, cut, put back, copied or damaged.
        """
        if not cls.exists(home):
            raise LedgerError(f"there is no ledger in {home}: make one with privfin budget init")
        key = SigningKey.read(home / SIGNING_KEY)
        fingerprint_key = read_fingerprint_key(home / FINGERPRINT_KEY)
        ledger = cls(home, Store.open(home / DATABASE), key, fingerprint_key)
        try:
            ledger._refresh()
            ledger._known_head()
            ledger._check_anchor()
            ledger._anchor()
        except BaseException:
            ledger.close()
            raise
        return ledger

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files."""
        self._store.close()

    def head(self) -> LedgerHead:
        """The last row's number, hash and signature, for manifests, messages and reports."""
        self._refresh()
        return self._known_head()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with self._store.writing():
                self._refresh()
                if self._last is not None:
                    self._check_anchor()
                yield
        except BaseException:
            # Rows that were undone may be in the state: read it anew.
            self._state, self._last = State(), None
            raise
        self._anchor()

    def _append(self, kind: str, body: dict[str, Any]) -> None:
        ledger_id = self._state.ledger_id or str(body["ledger"])
        time = datetime.now(UTC).isoformat(timespec="seconds")
        row = next_row(self._key, ledger_id, self._last, time=time, kind=kind, body=body)
        self._state.apply(row)
        self._store.append(row)
        self._last = row

    def _refresh(self) -> None:
        """Read what other processes wrote, checked against what is known."""
        last = self._last
        if last is not None and self._store.hash_at(last.seq) != last.hash:
            raise LedgerError(f"row {last.seq} changed while the ledger was open")
        for row in self._store.rows(after=last.seq if last else 0):
            ledger_id = self._state.ledger_id or str(row.content().get("ledger"))
            check_link(ledger_id, self._last, row)
            self._state.apply(row)
            self._last = row
        if self._last is None or self._last is last:
            return
        if self._state.public_key != self._key.public:
            raise LedgerError(f"{self.home / SIGNING_KEY} is not the key of this ledger")
        # The last signature covers its row's hash, which covers every row before. Without it a row
        # slipped in by someone without the key would be signed by the next one of ours.
        if not self._known_head().holds():
            raise LedgerError(f"row {self._last.seq}: its signature does not fit")

    def _known_head(self) -> LedgerHead:
        if self._last is None:
            raise LedgerError(f"{self.home / DATABASE} has no rows")
        row = self._last
        return LedgerHead(
            self._state.ledger_id, row.seq, row.hash, row.signature, self._state.public_key
        )

    def _check_anchor(self) -> None:
        head = self._known_head()
        check_anchor(read_anchor(head.ledger_id), head, self._store.hash_at)

    def _anchor(self) -> None:
        write_anchor(self._key, self._known_head(), self.home, self._store.hash_at)


def check_name(name: str, what: str) -> None:
    """Refuse a name of another form with UserInputError."""
    if not _NAME.fullmatch(name):
        raise UserInputError(
            f"'{name}' cannot name {what}: use 1 to 64 letters, digits, spaces, '.', '_' or '-'"
        )


def check_text(text: str, what: str, *, empty: bool = False) -> str:
    """A line that a person gave, trimmed. UserInputError if it is missing or too long."""
    text = text.strip()
    if (not text and not empty) or len(text) > 500 or not text.isprintable():
        raise UserInputError(f"{what} is needed, in one line of at most 500 characters")
    return text
