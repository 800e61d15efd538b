"""Signed envelopes: the form of every message, readable without trusting a byte of it.

Layout, integers big-endian::

    4  magic "PFEN"      4  header length      n  header, canonical JSON
    4  number of parts   8 + n  each part, length first        64  Ed25519 signature

The signature covers magic, header length and header; the header holds the SHA-256 of everything
between header and signature. So one pass hashes a large payload, and no bit can change.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, fields

from privfin.crypto.encoding import canonical_json, read_canonical_json
from privfin.crypto.keys import Roster, SiteIdentity
from privfin.errors import ProtocolError

_MAGIC = b"PFEN\x00\x00\x00\x02"
_DOMAIN = b"privfin/envelope/v2\x00"
_SIGNATURE = 64
_MAX_HEADER = 4096
_MAX_TEXT = 256
_MAX_COUNT = 2**31
MAX_PARTS = 1_000_000
MAX_BYTES = 2**32
"""Default largest envelope, 4 GiB."""


@dataclass(frozen=True)
class Header:
    """What a message is, who sent it and what it belongs to.

    Args:
        kind: the message type, such as ``"update"``.
        run_id: the run.
        round: round number, from 0.
        attempt: attempt at the round, from 0.
        piece: which piece of the payload, from 0; most payloads have only one.
        sender: a site of the roster.
        key_id: id of the BFV public key, or "" before there is one.
        config_hash: hash of the run's configuration.
        roster_digest: :attr:`Roster.digest`.
        payload_sha256: SHA-256 of the framed payload, 64 hexadecimal digits.
        ledger_head: the last row of the sender's privacy ledger, for others to keep as an anchor;
            "" where no ledger counts the run.
    """

    kind: str
    run_id: str
    round: int
    attempt: int
    piece: int
    sender: str
    key_id: str
    config_hash: str
    roster_digest: str
    payload_sha256: str
    ledger_head: str

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "int":
                good = type(value) is int and 0 <= value < _MAX_COUNT
            else:
                good = type(value) is str and len(value) <= _MAX_TEXT and value.isprintable()
            if not good:
                raise ProtocolError(f"envelope: {field.name} is not valid")


@dataclass(frozen=True)
class ExpectedHeader:
    """What a receiver waits for; ``senders`` are the sites that may send it."""

    kind: str
    run_id: str
    round: int
    attempt: int
    senders: tuple[str, ...]
    key_id: str
    config_hash: str
    piece: int = 0


@dataclass(frozen=True)
class Envelope:
    """An opened envelope: signature and every expected field hold."""

    header: Header
    parts: tuple[bytes, ...]


def sign_envelope(
    identity: SiteIdentity,
    roster: Roster,
    parts: list[bytes],
    *,
    kind: str,
    run_id: str,
    round: int,
    attempt: int,
    key_id: str,
    config_hash: str,
    piece: int = 0,
    ledger_head: str = "",
) -> bytes:
    """A signed envelope from ``identity`` around ``parts`` (see :class:`Header`).

    Raises:
        ProtocolError: a header field that is not valid, or too many parts.
    """
    if len(parts) > MAX_PARTS:
        raise ProtocolError(f"envelope: more than {MAX_PARTS} parts")
    pieces = [len(parts).to_bytes(4, "big")]
    for part in parts:
        pieces += [len(part).to_bytes(8, "big"), part]
    payload = b"".join(pieces)
    header = Header(
        kind=kind,
        run_id=run_id,
        round=round,
        attempt=attempt,
        piece=piece,
        sender=identity.name,
        key_id=key_id,
        config_hash=config_hash,
        roster_digest=roster.digest,
        payload_sha256=hashlib.sha256(payload).hexdigest(),
        ledger_head=ledger_head,
    )
    text = canonical_json(asdict(header))
    head = _MAGIC + len(text).to_bytes(4, "big") + text
    return b"".join([head, payload, identity.sign(_DOMAIN + head)])


def open_envelope(
    blob: bytes, roster: Roster, expected: ExpectedHeader, *, max_bytes: int = MAX_BYTES
) -> Envelope:
    """Read and verify an envelope.

    Args:
        blob: the bytes received.
        roster: the pinned keys.
        expected: what the receiver waits for.
        max_bytes: refuse anything longer, unread.

    Raises:
        ProtocolError: too short or long, malformed, not signed by its sender, or another kind,
            run, round, attempt, piece, key, configuration or roster; the message names sender and
            reason.
    """
    start = len(_MAGIC) + 4
    if not start + 4 + _SIGNATURE <= len(blob) <= max_bytes:
        raise ProtocolError(f"envelope: {len(blob)} bytes is too short or too long")
    size = int.from_bytes(blob[len(_MAGIC) : start], "big")
    if blob[: len(_MAGIC)] != _MAGIC:
        raise ProtocolError("envelope: not a privfin message of this version")
    if size > _MAX_HEADER or start + size + 4 + _SIGNATURE > len(blob):
        raise ProtocolError("envelope: its header has an impossible length")
    header = _read_header(blob[start : start + size])
    site = roster.get(header.sender)
    if site is None:
        raise ProtocolError(f"message from {header.sender!r}: not a site of the roster")
    if not site.verify(blob[-_SIGNATURE:], _DOMAIN + blob[: start + size]):
        raise ProtocolError(f"message from {header.sender}: the signature is not valid")
    _compare(header, roster, expected)
    payload = memoryview(blob)[start + size : -_SIGNATURE]
    if hashlib.sha256(payload).hexdigest() != header.payload_sha256:
        raise ProtocolError(f"message from {header.sender}: the payload is not the one signed")
    return Envelope(header, _read_parts(payload, header.sender))


def parts_unverified(blob: bytes) -> tuple[bytes, ...]:
    """The parts of an envelope as whoever listens on the way reads them: nothing is verified.

    Raises:
        ProtocolError: its framing is malformed.
    """
    start = len(_MAGIC) + 4
    size = int.from_bytes(blob[len(_MAGIC) : start], "big")
    if blob[: len(_MAGIC)] != _MAGIC or start + size + 4 + _SIGNATURE > len(blob):
        raise ProtocolError("envelope: not a privfin message of this version")
    return _read_parts(memoryview(blob)[start + size : -_SIGNATURE], "an unverified sender")


def _read_header(text: bytes) -> Header:
    values = read_canonical_json(text, "envelope")
    if set(values) != {field.name for field in fields(Header)}:
        raise ProtocolError("envelope: its header does not have the expected fields")
    return Header(**values)  # type: ignore[arg-type]  # Header checks every type itself


def _compare(header: Header, roster: Roster, expected: ExpectedHeader) -> None:
    """Raise ProtocolError for the first field that is not the expected one."""
    if header.sender not in expected.senders:
        raise ProtocolError(f"message from {header.sender}: this site is not expected to send now")
    wanted = {
        "kind": expected.kind,
        "run_id": expected.run_id,
        "round": expected.round,
        "attempt": expected.attempt,
        "piece": expected.piece,
        "key_id": expected.key_id,
        "config_hash": expected.config_hash,
        "roster_digest": roster.digest,
    }
    for name, value in wanted.items():
        if getattr(header, name) != value:
            raise ProtocolError(
                f"message from {header.sender}: {name} is {getattr(header, name)!r}, "
                f"expected {value!r}"
            )


def _read_parts(payload: memoryview, sender: str) -> tuple[bytes, ...]:
    count = int.from_bytes(payload[:4], "big")
    if count > MAX_PARTS:
        raise ProtocolError(f"message from {sender}: too many parts")
    parts = []
    at = 4
    for _ in range(count):
        size = int.from_bytes(payload[at : at + 8], "big")
        at += 8
        if at + size > len(payload):
            raise ProtocolError(f"message from {sender}: a part is cut off")
        parts.append(bytes(payload[at : at + size]))
        at += size
    if at != len(payload):
        raise ProtocolError(f"message from {sender}: bytes are left over")
    return tuple(parts)
