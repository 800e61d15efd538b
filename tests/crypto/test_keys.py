"""Identities, roster and sealed boxes."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privfin.crypto.encoding import canonical_json, frame
from privfin.crypto.keys import Roster, SiteIdentity, SitePublic, seal, unseal
from privfin.errors import ProtocolError, UserInputError

ANNA, BERT, CARL = (SiteIdentity.generate(name) for name in ("anna", "bert", "carl"))
CONTEXT = frame("run", "roster", "key", "anna", "bert")


def test_identity_round_trip() -> None:
    again = SiteIdentity.from_secret_bytes("anna", ANNA.secret_bytes())
    assert again.public() == ANNA.public()
    assert again.public().fingerprint == ANNA.public().fingerprint != BERT.public().fingerprint
    assert ANNA.public().verify(again.sign(b"m"), b"m")
    assert not ANNA.public().verify(again.sign(b"m"), b"n")
    assert not BERT.public().verify(again.sign(b"m"), b"m")
    for bad in (b"", ANNA.secret_bytes()[:-1], b"X" + ANNA.secret_bytes()[1:]):
        with pytest.raises(UserInputError):
            SiteIdentity.from_secret_bytes("anna", bad)


def test_agreement_is_symmetric_and_refuses_weak_keys() -> None:
    assert ANNA.agree(BERT.public()) == BERT.agree(ANNA.public())
    assert ANNA.agree(BERT.public()) != ANNA.agree(CARL.public())
    weak = SitePublic("weak", bytes(32), bytes(32))
    with pytest.raises(ProtocolError, match="X25519"):
        ANNA.agree(weak)


def test_identity_leaks_nothing() -> None:
    secret = ANNA.secret_bytes()
    for text in (repr(ANNA), str(ANNA), f"{ANNA}"):
        assert secret[5:13].hex() not in text and text == "SiteIdentity('anna')"
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            leak(ANNA)


@pytest.mark.parametrize("name", ["", "-a", "a b", "a/b", "ä", "x" * 65, "a\n"])
def test_refuses_names(name: str) -> None:
    with pytest.raises(UserInputError, match="cannot name a site"):
        SiteIdentity.generate(name)


def test_roster_is_canonical() -> None:
    one = Roster([BERT.public(), ANNA.public()])
    two = Roster([ANNA.public(), BERT.public()])
    assert one == two and one.digest == two.digest and hash(one) == hash(two)
    assert list(one) == ["anna", "bert"] and one["anna"] == ANNA.public()
    assert Roster.from_bytes(one.to_bytes()) == one
    assert one.digest != Roster([ANNA.public(), CARL.public()]).digest
    third = Roster([ANNA.public(), BERT.public()], version=3)
    assert third.digest != one.digest and third != Roster(third.values(), version=4)
    assert Roster.from_bytes(third.to_bytes()).version == 3
    for secret in (ANNA.secret_bytes()[5:37], ANNA.secret_bytes()[37:]):
        assert secret.hex() not in one.to_bytes().decode() + repr(one)


def test_roster_refuses_doubles_and_nobody() -> None:
    anna = ANNA.public()
    for sites in (
        [],
        [anna, anna],
        [anna, SitePublic("b", anna.ed25519, BERT.public().x25519)],
        [anna, SitePublic("b", BERT.public().ed25519, anna.x25519)],
    ):
        with pytest.raises(UserInputError):
            Roster(sites)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"[" * 5000,
        b'{"a":1}',
        canonical_json({"sites": {"a": {"ed25519": "00", "x25519": "zz"}}, "version": 0}),
        canonical_json({"sites": {"a": {"ed25519": 1, "x25519": 2}}, "version": 0}),
        canonical_json({"sites": {"a": {"ed25519": "AA" * 32, "x25519": "bb" * 32}}, "version": 0}),
        canonical_json({"sites": {"a": {"ed25519": "aa" * 31, "x25519": "bb" * 32}}, "version": 0}),
        canonical_json(
            {"sites": {"a": {"ed25519": "aa" * 32, "x25519": "bb" * 32, "z": ""}}, "version": 0}
        ),
        canonical_json({"sites": {"a": {"ed25519": "aa" * 32, "x25519": "bb" * 32}}}),
        Roster([ANNA.public()]).to_bytes() + b" ",
        Roster([ANNA.public()]).to_bytes().replace(b":0}", b":-1}"),
        Roster([ANNA.public()]).to_bytes().replace(b":0}", b":0.0}"),
        Roster([ANNA.public()]).to_bytes().replace(b":0}", b":false}"),
    ],
)
def test_roster_refuses_other_bytes(data: bytes) -> None:
    with pytest.raises((ProtocolError, UserInputError)):
        Roster.from_bytes(data)


@settings(max_examples=20)
@given(st.binary(max_size=200))
def test_box_round_trip(plaintext: bytes) -> None:
    box = seal(BERT.public(), ANNA, plaintext, CONTEXT)
    assert len(box) == len(plaintext) + 53
    assert unseal(BERT, ANNA.public(), box, CONTEXT) == plaintext
    assert box != seal(BERT.public(), ANNA, plaintext, CONTEXT)


def test_box_opens_for_nobody_else_and_nowhere_else() -> None:
    box = seal(BERT.public(), ANNA, b"secret key", CONTEXT)
    for who, sender, context in (
        (CARL, ANNA, CONTEXT),
        (ANNA, ANNA, CONTEXT),
        (BERT, CARL, CONTEXT),
        (BERT, ANNA, frame("run2", "roster", "key", "anna", "bert")),
    ):
        with pytest.raises(ProtocolError, match="sealed box"):
            unseal(who, sender.public(), box, context)


def test_box_refuses_every_flipped_bit_and_every_cut() -> None:
    box = seal(BERT.public(), ANNA, b"secret key", CONTEXT)
    for bit in range(8 * len(box)):
        bad = bytearray(box)
        bad[bit // 8] ^= 1 << bit % 8
        # X25519 ignores the top bit of a point, so the box binds the bytes as sent as well.
        with pytest.raises(ProtocolError):
            unseal(BERT, ANNA.public(), bytes(bad), CONTEXT)
    for end in range(len(box)):
        with pytest.raises(ProtocolError):
            unseal(BERT, ANNA.public(), box[:end], CONTEXT)


@given(st.lists(st.one_of(st.text(), st.integers(), st.binary()), max_size=4), st.data())
def test_frames_of_different_parts_differ(
    parts: list[str | int | bytes], data: st.DataObject
) -> None:
    other = data.draw(st.lists(st.one_of(st.text(), st.integers(), st.binary()), max_size=4))
    assert (frame(*parts) == frame(*other)) == (parts == other)
