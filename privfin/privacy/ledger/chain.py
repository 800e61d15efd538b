"""Rows of a ledger: each holds the hash of the one before and is signed, so that none can change.

The hash covers everything in a row, and the ledger it belongs to, as :func:`frame` writes it; the
signature covers ledger, number and hash. A head is the last row's number, hash and signature: who
has seen a head can tell later whether the ledger still begins with the same rows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from privfin.crypto.encoding import canonical_json, digest, frame, read_canonical_json
from privfin.errors import LedgerError, ProtocolError
from privfin.privacy.ledger.keys import SigningKey, signature_holds

KINDS = (
    "created",
    "cap_set",
    "bound",
    "override",
    "reserved",
    "specified",
    "started",
    "settled",
    "abandoned",
    "refused",
    "recovered",
)
NO_ROW = "0" * 64
"""What the first row holds as the hash of the row before it."""

_HASH = re.compile(r"[0-9a-f]{64}")
_NUMBER = re.compile(r"[1-9][0-9]{0,17}")
_ID = re.compile(r"[0-9a-f]{32}")
_SIGNATURE = re.compile(r"[0-9a-f]{128}")


@dataclass(frozen=True)
class Row:
    """One row. ``body`` is canonical JSON; hashes, keys and signatures are hexadecimal.

    Attributes:
        seq: number, from 1 without gaps.
        time: UTC, ISO 8601.
        kind: one of :data:`KINDS`.
        body: canonical JSON object.
        previous: hash of the row before.
        hash: SHA-256 of everything above and the ledger's id.
        signature: Ed25519 over ledger id, seq and hash.
    """

    seq: int
    time: str
    kind: str
    body: str
    previous: str
    hash: str
    signature: str

    def content(self) -> dict[str, object]:
        """The body. LedgerError if it is not canonical JSON."""
        try:
            return read_canonical_json(self.body.encode(), "body")
        except (ProtocolError, UnicodeEncodeError) as error:
            raise LedgerError(f"row {self.seq}: its body is not canonical JSON") from error


def row_hash(ledger_id: str, row: Row) -> str:
    """What ``row.hash`` must be."""
    return digest(
        "privfin/ledger/row/v1", ledger_id, row.seq, row.time, row.kind, row.body, row.previous
    )


def head_message(ledger_id: str, seq: int, hash_: str) -> bytes:
    """The bytes that a row's signature covers."""
    return frame("privfin/ledger/head/v1", ledger_id, seq, hash_)


def next_row(
    key: SigningKey,
    ledger_id: str,
    last: Row | None,
    *,
    time: str,
    kind: str,
    body: Mapping[str, object],
) -> Row:
    """The signed row that follows ``last``."""
    seq, previous = (last.seq + 1, last.hash) if last else (1, NO_ROW)
    row = Row(seq, time, kind, canonical_json(body).decode(), previous, "", "")
    row = replace(row, hash=row_hash(ledger_id, row))
    return replace(row, signature=key.sign(head_message(ledger_id, seq, row.hash)))


def check_link(ledger_id: str, last: Row | None, row: Row) -> None:
    """Check that ``row`` is whole and follows ``last``; its signature is checked elsewhere.

    Raises:
        LedgerError: naming the row.
    """
    seq, previous = (last.seq + 1, last.hash) if last else (1, NO_ROW)
    if row.seq != seq:
        raise LedgerError(f"row {seq} is missing: row {row.seq} follows row {seq - 1}")
    if row.previous != previous:
        raise LedgerError(f"row {row.seq} does not follow the row before it")
    if row.hash != row_hash(ledger_id, row):
        raise LedgerError(f"row {row.seq} was changed: its hash does not fit")


@dataclass(frozen=True)
class LedgerHead:
    """The last row of a ledger at some time, signed: what anchors, manifests and reports keep.

    Attributes:
        ledger_id: 32 hexadecimal digits.
        seq: the row's number, which is the number of rows.
        hash: the row's hash, 64 hexadecimal digits.
        signature: the row's signature, 128 hexadecimal digits.
        public_key: Ed25519 key that verifies it, 64 hexadecimal digits.
    """

    ledger_id: str
    seq: int
    hash: str
    signature: str
    public_key: str

    def to_dict(self) -> dict[str, str | int]:
        """The five fields by name, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, found: Mapping[str, object]) -> LedgerHead:
        """Read back :meth:`to_dict`. LedgerError if it is not a head; see :meth:`holds` too."""
        texts = {
            "ledger_id": _ID,
            "hash": _HASH,
            "signature": _SIGNATURE,
            "public_key": _HASH,
        }
        if set(found) != {"seq", *texts}:
            raise LedgerError("not a ledger head: it has other fields")
        seq = found["seq"]
        values = {name: found[name] for name in texts}
        for name, form in texts.items():
            if not isinstance(values[name], str) or not form.fullmatch(str(values[name])):
                raise LedgerError(f"not a ledger head: {name} is malformed")
        if not isinstance(seq, int) or isinstance(seq, bool) or seq < 1:
            raise LedgerError("not a ledger head: seq is malformed")
        return cls(seq=seq, **{name: str(value) for name, value in values.items()})

    def to_text(self) -> str:
        """Everything but the key in one word of at most 256 characters, for message headers."""
        return ":".join([self.ledger_id, str(self.seq), self.hash, self.signature])

    @classmethod
    def from_text(cls, text: str, public_key: str) -> LedgerHead:
        """Read back :meth:`to_text`. LedgerError if it is not a head; see :meth:`holds` too."""
        parts = text.split(":")
        if len(parts) != 4 or not _NUMBER.fullmatch(parts[1]):
            raise LedgerError("not a ledger head: it has another form")
        ledger_id, seq, hash_, signature = parts
        return cls.from_dict(
            {
                "ledger_id": ledger_id,
                "seq": int(seq),
                "hash": hash_,
                "signature": signature,
                "public_key": public_key,
            }
        )

    def holds(self) -> bool:
        """Whether the signature is valid under the head's own public key."""
        message = head_message(self.ledger_id, self.seq, self.hash)
        return signature_holds(self.public_key, self.signature, message)
