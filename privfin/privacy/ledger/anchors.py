"""Anchors: the last head of each ledger, kept apart from it, so that going back shows.

An anchor is written after a commit. It may lag behind the ledger when a process dies in between,
and never leads: an anchor ahead of its ledger means that rows were lost.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from privfin.crypto.encoding import canonical_json, frame
from privfin.errors import LedgerError, UserInputError
from privfin.files import write_bytes
from privfin.privacy.ledger.chain import LedgerHead
from privfin.privacy.ledger.keys import SigningKey, signature_holds
from privfin.privacy.ledger.places import anchors_folder, disk_errors, make_private_folder

_FORMAT = 1


@dataclass(frozen=True)
class Anchor:
    """A head, and hashes of the homes that its ledger has lain in."""

    head: LedgerHead
    homes: tuple[str, ...]


def home_hash(home: Path) -> str:
    """What an anchor keeps of a home's path."""
    return hashlib.sha256(str(home.resolve()).encode("utf-8", "surrogateescape")).hexdigest()


def read_anchor(ledger_id: str) -> Anchor | None:
    """The anchor of a ledger, None if there is none. LedgerError if it is damaged."""
    path = _path(ledger_id)
    if not path.exists():
        return None
    anchor = _read(path)
    if anchor.head.ledger_id != ledger_id:
        raise LedgerError(f"the anchor {path} is of another ledger")
    return anchor


def anchors_of_home(home: Path) -> list[Anchor]:
    """Anchors of ledgers that have lain in ``home``. LedgerError if one is damaged."""
    folder = anchors_folder()
    if not folder.is_dir():
        return []
    found = [_read(path) for path in sorted(folder.glob("*.json"))]
    return [anchor for anchor in found if home_hash(home) in anchor.homes]


def check_anchor(
    anchor: Anchor | None, head: LedgerHead, hash_at: Callable[[int], str | None]
) -> None:
    """Refuse a ledger that does not go on from its anchor.

    Args:
        anchor: what :func:`read_anchor` gave.
        head: of the ledger.
        hash_at: the hash of one of the ledger's rows, None if it has no such row.

    Raises:
        LedgerError: the anchor is missing, ahead, of another history or of another key.
    """
    if anchor is None:
        if head.seq > 1:
            raise LedgerError(
                f"the anchor of this ledger is missing from {anchors_folder()}: put it back, or "
                "take it from a safe copy"
            )
        return
    if anchor.head.public_key != head.public_key:
        raise LedgerError("the ledger's key is not the one that its anchor pins: see budget verify")
    found = hash_at(anchor.head.seq)
    if found is None:
        raise LedgerError(
            f"rows were lost: the ledger ends at row {head.seq}, its anchor says {anchor.head.seq} "
            "(an old copy put back, or its end cut off); see privfin budget verify"
        )
    if found != anchor.head.hash:
        raise LedgerError(
            f"row {anchor.head.seq} is not the one that the anchor saw: the ledger was changed or "
            "a copy of it was used elsewhere; see privfin budget verify"
        )


def write_anchor(
    key: SigningKey, head: LedgerHead, home: Path, hash_at: Callable[[int], str | None]
) -> None:
    """Move the anchor up to ``head``; one that is already further, on the same rows, stays.

    Raises:
        LedgerError: it cannot be written, or is of another history.
    """
    make_private_folder(anchors_folder())
    with _lock(head.ledger_id):
        before = read_anchor(head.ledger_id)
        homes = {home_hash(home)}
        if before is not None:
            check_anchor(before, head, hash_at)
            homes |= set(before.homes)
            if before.head.seq >= head.seq and homes == set(before.homes):
                return
            if before.head.seq > head.seq:
                head = before.head
        replace_anchor(key, Anchor(head, tuple(sorted(homes))))


def replace_anchor(key: SigningKey, anchor: Anchor) -> None:
    """Write an anchor whatever was there before."""
    make_private_folder(anchors_folder())
    content = _content(anchor)
    signature = key.sign(frame("privfin/ledger/anchor/v1", canonical_json(content)))
    text = json.dumps({**content, "signature": signature}, indent=2, sort_keys=True)
    try:
        write_bytes(_path(anchor.head.ledger_id), (text + "\n").encode())
    except UserInputError as error:
        raise LedgerError(str(error)) from error


def _content(anchor: Anchor) -> dict[str, Any]:
    return {"format": _FORMAT, "head": anchor.head.to_dict(), "homes": list(anchor.homes)}


def _read(path: Path) -> Anchor:
    damaged = LedgerError(f"the anchor {path} is damaged: find out who changed it")
    with disk_errors(path):
        text = path.read_bytes()
    try:
        found = json.loads(text)
        signature = found.pop("signature")
        anchor = Anchor(LedgerHead.from_dict(found["head"]), tuple(map(str, found["homes"])))
        content = canonical_json(found)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, LedgerError):
        raise damaged from None
    message = frame("privfin/ledger/anchor/v1", content)
    own = signature_holds(anchor.head.public_key, str(signature), message)
    if content != canonical_json(_content(anchor)) or not own or not anchor.head.holds():
        raise damaged
    return anchor


def _path(ledger_id: str) -> Path:
    return anchors_folder() / f"{ledger_id}.json"


@contextmanager
def _lock(ledger_id: str) -> Iterator[None]:
    path = anchors_folder() / f".{ledger_id}.lock"
    with disk_errors(path):
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
