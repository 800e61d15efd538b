"""Envelopes: what is signed arrives, and nothing else is accepted."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privfin.crypto.encoding import canonical_json
from privfin.crypto.envelope import ExpectedHeader, open_envelope, sign_envelope
from privfin.crypto.keys import Roster, SiteIdentity
from privfin.errors import ProtocolError

ANNA, BERT, EVE = (SiteIdentity.generate(name) for name in ("anna", "bert", "eve"))
ROSTER = Roster([ANNA.public(), BERT.public()])
EXPECTED = ExpectedHeader(
    kind="update",
    run_id="run",
    round=3,
    attempt=1,
    senders=("anna", "bert"),
    key_id="k" * 64,
    config_hash="c" * 64,
)
PARTS = [b"ciphertext one", b"", b"ciphertext two"]


def signed(
    identity: SiteIdentity = ANNA, parts: list[bytes] | None = None, **change: object
) -> bytes:
    header: dict[str, object] = {
        "kind": "update",
        "run_id": "run",
        "round": 3,
        "attempt": 1,
        "key_id": "k" * 64,
        "config_hash": "c" * 64,
    }
    return sign_envelope(
        identity,
        ROSTER,
        PARTS if parts is None else parts,
        **(header | change),  # type: ignore[arg-type]
    )


@settings(max_examples=30)
@given(st.lists(st.binary(max_size=50), max_size=6))
def test_round_trip(parts: list[bytes]) -> None:
    opened = open_envelope(signed(parts=parts), ROSTER, EXPECTED)
    assert list(opened.parts) == parts
    assert opened.header.sender == "anna" and opened.header.roster_digest == ROSTER.digest


def test_every_flipped_bit_is_refused() -> None:
    blob = signed()
    for bit in range(8 * len(blob)):
        bad = bytearray(blob)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ProtocolError):
            open_envelope(bytes(bad), ROSTER, EXPECTED)


def test_every_cut_and_every_addition_is_refused() -> None:
    blob = signed()
    for end in range(len(blob)):
        with pytest.raises(ProtocolError):
            open_envelope(blob[:end], ROSTER, EXPECTED)
    for extra in (b"\0", blob, bytes(64)):
        with pytest.raises(ProtocolError):
            open_envelope(blob + extra, ROSTER, EXPECTED)
        with pytest.raises(ProtocolError):
            open_envelope(blob[:-64] + extra + blob[-64:], ROSTER, EXPECTED)


def test_oversized_is_refused_unread() -> None:
    with pytest.raises(ProtocolError, match="too long"):
        open_envelope(signed(), ROSTER, EXPECTED, max_bytes=100)


@settings(max_examples=300)
@given(st.binary(max_size=400))
def test_random_bytes_are_refused(blob: bytes) -> None:
    with pytest.raises(ProtocolError):
        open_envelope(blob, ROSTER, EXPECTED)
    with pytest.raises(ProtocolError):
        open_envelope(signed()[:8] + blob, ROSTER, EXPECTED)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"kind": "metrics"}, "kind"),
        ({"run_id": "other"}, "run_id"),
        ({"round": 4}, "round"),
        ({"attempt": 0}, "attempt"),
        ({"key_id": "x"}, "key_id"),
        ({"config_hash": "x"}, "config_hash"),
    ],
)
def test_other_context_is_refused_by_name(change: dict[str, object], word: str) -> None:
    with pytest.raises(ProtocolError, match=rf"from anna: {word} is"):
        open_envelope(signed(**change), ROSTER, EXPECTED)


def test_other_senders_are_refused() -> None:
    with pytest.raises(ProtocolError, match="'eve': not a site of the roster"):
        open_envelope(signed(EVE), ROSTER, EXPECTED)
    with pytest.raises(ProtocolError, match="bert: this site is not expected"):
        open_envelope(signed(BERT), ROSTER, replace(EXPECTED, senders=("anna",)))
    # Bert signs in Anna's name.
    impostor = SiteIdentity("anna", BERT._signing, BERT._agreement)
    with pytest.raises(ProtocolError, match="anna: the signature is not valid"):
        open_envelope(signed(impostor), ROSTER, EXPECTED)


def test_other_roster_is_refused() -> None:
    other = Roster([ANNA.public(), EVE.public()])
    with pytest.raises(ProtocolError, match="roster_digest"):
        open_envelope(signed(), other, EXPECTED)


@pytest.mark.parametrize(
    "change",
    [
        {"round": -1},
        {"round": 2**31},
        {"round": True},
        {"attempt": 1.0},
        {"kind": "x" * 257},
        {"kind": "a\nb"},
        {"kind": 3},
    ],
)
def test_bad_headers_cannot_be_signed(change: dict[str, object]) -> None:
    with pytest.raises(ProtocolError, match="is not valid"):
        signed(**change)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"{}",
        b"null",
        b"[" * 4000,
        b"1" * 4096,
        canonical_json({"sender": "anna"}),
        canonical_json({"sender": ["anna"]}),
    ],
)
def test_malformed_headers_are_refused(header: bytes) -> None:
    head = signed()[:8] + len(header).to_bytes(4, "big") + header
    blob = head + bytes(4) + ANNA.sign(b"privfin/envelope/v1\x00" + head)
    with pytest.raises(ProtocolError, match="envelope:"):
        open_envelope(blob, ROSTER, EXPECTED)
