"""Rebuild a lost ledger from an export: the same chain, and a row that says who did so and why.

Everything that was acted on is anchored, so an export that reaches the anchor lacks nothing. One
that does not, or that no anchor vouches for, may lack spends: it is taken only if an officer
accepts that, and then no cap holds any more and every open reservation is charged in full.
Fingerprints and places are not in an export: data sets are bound again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from privfin.errors import LedgerError, UserInputError
from privfin.privacy.ledger.anchors import (
    Anchor,
    anchors_of_home,
    home_hash,
    read_anchor,
    replace_anchor,
)
from privfin.privacy.ledger.chain import LedgerHead, Row, next_row
from privfin.privacy.ledger.keys import SigningKey, make_fingerprint_key, read_fingerprint_key
from privfin.privacy.ledger.places import (
    DATABASE,
    FINGERPRINT_KEY,
    SIGNING_KEY,
    disk_errors,
    make_private_folder,
)
from privfin.privacy.ledger.state import State
from privfin.privacy.ledger.store import Store
from privfin.privacy.ledger.verify import verify_rows


@dataclass(frozen=True)
class Recovery:
    """What was rebuilt.

    Attributes:
        head: of the new ``recovered`` row.
        rows: how many rows the export held.
        rows_lost: how many an anchor or a head says were lost, None where nothing can say.
        new_key: whether rows are signed by another key from here on.
    """

    head: LedgerHead
    rows: int
    rows_lost: int | None
    new_key: bool

    @property
    def caps_withdrawn(self) -> bool:
        """Whether no cap holds until an officer sets it again."""
        return self.rows_lost != 0


def recover_ledger(
    home: Path,
    rows: Sequence[Row],
    head: LedgerHead,
    *,
    officer: str,
    reason: str,
    heads: Sequence[LedgerHead] = (),
    accept_loss: bool = False,
    new_key: bool = False,
) -> Recovery:
    """Put the ledger of an export into ``home``, where there is none.

    Args:
        home: keys that are still there are used.
        rows: of the export.
        head: of the export.
        officer: who decides.
        reason: why.
        heads: from elsewhere (manifests, reports), which the export must reach as well.
        accept_loss: take an export that may lack rows; all caps are then withdrawn.
        new_key: make a signing key in place of one that is lost.

    Raises:
        LedgerError: a ledger is there, the export is not whole, of another ledger or key, or ends
            too early; nothing was written.
        UserInputError: no officer or no reason.
    """
    if not (officer.strip() and reason.strip()):
        raise UserInputError("a recovery needs the officer's name and a reason")
    if (home / DATABASE).exists():
        raise LedgerError(
            f"{home / DATABASE} is there: see privfin budget verify; move it away if it is damaged"
        )
    findings, state = verify_rows(rows, [head])
    if findings:
        raise LedgerError(f"the export is not whole: {findings[0].problem}")
    if head.seq != len(rows):
        raise LedgerError("the export goes on behind its head")
    anchor = read_anchor(state.ledger_id)
    for other in anchors_of_home(home):
        if other.head.ledger_id != state.ledger_id:
            raise LedgerError(f"another ledger, {other.head.ledger_id}, was in {home} before")
    lost = _rows_lost(rows, state, [anchor.head] if anchor else [], heads)
    if lost != 0 and not accept_loss:
        what = f"{lost} rows of it are lost" if lost else "no anchor says where the ledger ended"
        raise LedgerError(
            f"the export may lack spends: {what}; take a later export or put the anchor back, or "
            "give --accept-loss, which withdraws all caps"
        )
    key_is_lost = not (home / SIGNING_KEY).exists()
    if key_is_lost and not new_key:
        raise LedgerError(
            f"{home / SIGNING_KEY} is missing: put the key back, or give --new-key to go on under "
            "another one"
        )
    if not key_is_lost and SigningKey.read(home / SIGNING_KEY).public != state.public_key:
        raise LedgerError(f"{home / SIGNING_KEY} is not the key of this ledger: move it away first")
    if (home / FINGERPRINT_KEY).exists():
        read_fingerprint_key(home / FINGERPRINT_KEY)
    homes = {home_hash(home), *(anchor.homes if anchor else ())}
    last = _write(home, rows, state, officer.strip(), reason.strip(), lost)
    key = SigningKey.read(home / SIGNING_KEY)
    found = LedgerHead(state.ledger_id, last.seq, last.hash, last.signature, key.public)
    replace_anchor(key, Anchor(found, tuple(sorted(homes))))
    return Recovery(found, len(rows), lost, key_is_lost)


def _rows_lost(
    rows: Sequence[Row], state: State, anchored: Sequence[LedgerHead], heads: Sequence[LedgerHead]
) -> int | None:
    """How many rows the furthest head has beyond ``rows``; None without an anchor."""
    furthest = len(rows)
    for head in (*anchored, *heads):
        if head.ledger_id != state.ledger_id:
            raise LedgerError(f"a head is of another ledger, {head.ledger_id}")
        if not head.holds() or head.public_key != state.key_at(head.seq):
            raise LedgerError(f"the head of row {head.seq} is not signed by this ledger")
        if head.seq <= len(rows) and rows[head.seq - 1].hash != head.hash:
            raise LedgerError(
                f"row {head.seq} of the export is not the one that a head or the anchor saw"
            )
        furthest = max(furthest, head.seq)
    lost = furthest - len(rows)
    return lost if anchored or lost else None


def _write(
    home: Path, rows: Sequence[Row], state: State, officer: str, reason: str, lost: int | None
) -> Row:
    """Write keys and rows; the database gets its name when it is whole."""
    make_private_folder(home)
    path, unfinished = home / DATABASE, home / f"{DATABASE}.unfinished"
    with disk_errors(unfinished):
        for end in ("", "-wal", "-shm"):
            unfinished.with_name(unfinished.name + end).unlink(missing_ok=True)
    store = Store.create(unfinished)
    made: list[Path] = []
    try:
        if (home / SIGNING_KEY).exists():
            key = SigningKey.read(home / SIGNING_KEY)
        else:
            key = SigningKey.make(home / SIGNING_KEY)
            made.append(home / SIGNING_KEY)
        if not (home / FINGERPRINT_KEY).exists():
            make_fingerprint_key(home / FINGERPRINT_KEY)
            made.append(home / FINGERPRINT_KEY)
        body: dict[str, object] = {
            "officer": officer,
            "reason": reason,
            "public_key": key.public,
            "rows_lost": "unknown" if lost is None else lost,
        }
        now = datetime.now(UTC).isoformat(timespec="seconds")
        last = next_row(key, state.ledger_id, rows[-1], time=now, kind="recovered", body=body)
        state.apply(last)
        with store.writing():
            for row in (*rows, last):
                store.append(row)
        store.close()
        with disk_errors(path):
            unfinished.rename(path)
    except BaseException:
        store.close()
        for one in (*made, unfinished):
            one.unlink(missing_ok=True)
        raise
    return last
