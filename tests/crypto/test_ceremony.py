"""Ceremony messages: the right site takes the right key once, and every other use is named."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from privfin.crypto import ceremony
from privfin.crypto.bfv import BfvKey
from privfin.crypto.ceremony import CeremonyMessage, seal_message
from privfin.crypto.keys import SiteIdentity, seal
from privfin.crypto.pack import Packing
from privfin.crypto.roster_file import SignedRoster
from privfin.crypto.site_entry import SiteEntry
from privfin.errors import ProtocolError

NORTH, SOUTH, WEST, EVE = (SiteIdentity.generate(n) for n in ("north", "south", "west", "eve"))
KEY, OTHER_KEY = (BfvKey.generate(Packing.named("2x20")) for _ in range(2))


def entries(*sites: SiteIdentity, federation: str = "lungs") -> tuple[SiteEntry, ...]:
    return tuple(SiteEntry.sign(site, federation, ("image",)) for site in sites)


def founded(keeper: SiteIdentity, key: BfvKey = KEY, federation: str = "lungs") -> SignedRoster:
    own = entries(keeper, federation=federation)[0]
    return SignedRoster.found(keeper, federation, own, key.public().key_id, "2x20")


def following(roster: SignedRoster, *sites: SiteIdentity, key: BfvKey = KEY) -> SignedRoster:
    keeper = next(site for site in sites if site.name == roster.keeper)
    listed = entries(*sites, federation=roster.federation)
    return roster.next(keeper, sites=listed, key_id=key.public().key_id, layout="2x20")


V1 = founded(NORTH)
V2 = following(V1, NORTH, SOUTH, WEST)
V3 = following(V2, NORTH, SOUTH, WEST)
V4 = following(V3, NORTH, SOUTH, key=OTHER_KEY)
FOR_SOUTH = seal_message(NORTH, V2, KEY, "south", 5)


def forged(roster: SignedRoster, secret: bytes, signer: SiteIdentity = NORTH, **change: object):
    """A message with any header around any key, signed all the same."""
    header = ceremony.CeremonyHeader(
        **{
            "federation": roster.federation,
            "version": roster.version,
            "roster_digest": roster.digest,
            "key_id": roster.key_id,
            "keeper": roster.keeper,
            "recipient": "south",
            "number": 9,
        }
        | change  # type: ignore[arg-type]
    )
    box = seal(SOUTH.public(), signer, secret, ceremony._box_context(header))
    return assembled(header, roster, box, signer)


def assembled(
    header: ceremony.CeremonyHeader, roster: SignedRoster, box: bytes, signer: SiteIdentity
) -> bytes:
    parts = (header.to_bytes(), roster.to_bytes(), box)
    whole = ceremony._MAGIC + b"".join(len(p).to_bytes(4, "big") + p for p in parts)
    return whole + signer.sign(ceremony._DOMAIN + whole)


def test_a_site_takes_the_roster_and_a_key_that_decrypts() -> None:
    opened = CeremonyMessage.read(FOR_SOUTH).open(SOUTH, None, 0)
    assert (opened.roster, opened.number) == (V2, 5)
    slots = np.arange(100, dtype=np.int64)
    blobs = KEY.public().encrypt(slots)
    assert np.array_equal(opened.key.decrypt(blobs, 100), slots)
    with pytest.raises(TypeError, match="cannot be copied or pickled"):
        pickle.dumps(opened)


def test_accepts_the_next_version_and_one_after_a_gap() -> None:
    for roster, key, accepted in ((V3, KEY, V2), (V4, OTHER_KEY, V2), (V4, OTHER_KEY, V3)):
        message = CeremonyMessage.read(seal_message(NORTH, roster, key, "south", 6))
        assert message.open(SOUTH, accepted, 5).roster == roster


def test_a_changed_message_is_refused() -> None:
    size = len(FOR_SOUTH)
    box_start = size - 64 - (len(KEY.secret_bytes()) + 53)
    head = range(box_start + 40)  # header, roster, lengths, ephemeral key
    rest = [*range(box_start + 40, size - 64, 40_009), *range(size - 64, size)]
    for at in [*head[::3], *rest]:
        bad = bytearray(FOR_SOUTH)
        bad[at] ^= 1 << at % 8
        with pytest.raises(ProtocolError):
            CeremonyMessage.read(bytes(bad)).open(SOUTH, None, 0)
    for end in [*range(0, box_start, 31), size - 65, size - 1]:
        with pytest.raises(ProtocolError):
            CeremonyMessage.read(FOR_SOUTH[:end])
    for extra in (b"\0", bytes(64), FOR_SOUTH):
        with pytest.raises(ProtocolError):
            CeremonyMessage.read(FOR_SOUTH + extra)


@pytest.mark.parametrize("place", [5, 9])
def test_forged_lengths_are_refused_unread(place: int) -> None:
    for size in (0, 2**31, 2**32 - 1):
        bad = bytearray(FOR_SOUTH)
        bad[place : place + 4] = size.to_bytes(4, "big")
        with pytest.raises(ProtocolError):
            CeremonyMessage.read(bytes(bad))
    with pytest.raises(ProtocolError, match="not a privfin ceremony file"):
        CeremonyMessage.read(bytes(ceremony.MAX_BYTES + 1))


def test_another_site_is_told_whose_it_is() -> None:
    with pytest.raises(ProtocolError, match="from north: it is for site south, not west"):
        CeremonyMessage.read(FOR_SOUTH).open(WEST, None, 0)
    # Eve knows only that the name is hers.
    namesake = SiteIdentity.generate("south")
    with pytest.raises(ProtocolError, match="lists other keys for site south"):
        CeremonyMessage.read(FOR_SOUTH).open(namesake, None, 0)
    with pytest.raises(ProtocolError, match="site eve is not in version 2"):
        seal_message(NORTH, V2, KEY, "eve", 1)


def test_a_box_that_was_made_for_another_site_does_not_open_for_this_one() -> None:
    message = CeremonyMessage.read(seal_message(NORTH, V2, KEY, "west", 5))
    header = replace(message.header, recipient="south")
    with pytest.raises(ProtocolError, match=r"from north: the sealed box .* does not open"):
        moved = assembled(header, V2, message._box, NORTH)
        CeremonyMessage.read(moved).open(SOUTH, None, 0)


def test_a_box_does_not_open_under_another_number_or_version() -> None:
    message = CeremonyMessage.read(FOR_SOUTH)
    renumbered = replace(message.header, number=8)
    other = replace(message.header, version=3, roster_digest=V3.digest)
    for header, roster in ((renumbered, V2), (other, V3)):
        with pytest.raises(ProtocolError, match="does not open"):
            again = assembled(header, roster, message._box, NORTH)
            CeremonyMessage.read(again).open(SOUTH, None, 0)


def test_a_replayed_message_is_named() -> None:
    message = CeremonyMessage.read(FOR_SOUTH)
    for last in (5, 6, 1000):
        with pytest.raises(ProtocolError, match="message 5 is replayed"):
            message.open(SOUTH, V1, last)
    # A fresh number does not carry an old roster either.
    again = CeremonyMessage.read(seal_message(NORTH, V2, KEY, "south", 7))
    for accepted in (V2, V3, V4):
        with pytest.raises(ProtocolError, match="version 2 is not newer than version"):
            again.open(SOUTH, accepted, 6)


def test_a_swapped_key_is_named() -> None:
    # The keeper, or whoever has its keys, seals another key than the roster shows to all.
    swapped = forged(V2, OTHER_KEY.secret_bytes())
    with pytest.raises(ProtocolError, match="from north: the key inside is not the one"):
        CeremonyMessage.read(swapped).open(SOUTH, None, 0)
    with pytest.raises(ProtocolError, match="key_id is"):
        seal_message(NORTH, V2, OTHER_KEY, "south", 1)
    for junk in (b"", b"key", OTHER_KEY.public().to_bytes(), KEY.secret_bytes()[:-1]):
        with pytest.raises(ProtocolError, match="from north: "):
            CeremonyMessage.read(forged(V2, junk)).open(SOUTH, None, 0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 3),
        ("roster_digest", "0" * 64),
        ("key_id", "0" * 64),
        ("keeper", "south"),
        ("federation", "hips"),
    ],
)
def test_a_header_that_names_another_roster_is_refused(field: str, value: object) -> None:
    with pytest.raises(ProtocolError, match=f"{field} is .* but the roster inside says"):
        CeremonyMessage.read(forged(V2, KEY.secret_bytes(), **{field: value}))


@pytest.mark.parametrize(
    ("field", "value"),
    [("version", 0), ("version", True), ("number", -1), ("number", 2**53), ("recipient", "")],
)
def test_a_header_with_impossible_values_is_refused(field: str, value: object) -> None:
    with pytest.raises(ProtocolError, match=f"{field} is not valid"):
        forged(V2, KEY.secret_bytes(), **{field: value})


def test_a_message_of_another_federation_or_keeper_is_named() -> None:
    hips = following(founded(NORTH, federation="hips"), NORTH, SOUTH)
    with pytest.raises(ProtocolError, match="it is of 'hips'"):
        CeremonyMessage.read(seal_message(NORTH, hips, KEY, "south", 9)).open(SOUTH, V2, 5)
    eves = following(founded(EVE), EVE, SOUTH)
    with pytest.raises(ProtocolError, match=r"from eve: .* keeper north"):
        CeremonyMessage.read(seal_message(EVE, eves, KEY, "south", 9)).open(SOUTH, V1, 0)
    impostor = SiteIdentity.generate("north")
    fakes = following(founded(impostor), impostor, SOUTH)
    with pytest.raises(ProtocolError, match="keeper is not north with the keys accepted"):
        CeremonyMessage.read(seal_message(impostor, fakes, KEY, "south", 9)).open(SOUTH, V1, 0)


def test_only_the_keeper_signs() -> None:
    with pytest.raises(ProtocolError, match="from north: the signature is not valid"):
        CeremonyMessage.read(forged(V2, KEY.secret_bytes(), signer=WEST))


def test_nothing_secret_can_be_read_in_a_message() -> None:
    secret = KEY.secret_bytes()
    for start in range(0, len(secret) - 32, 9973):
        assert secret[start : start + 32] not in FOR_SOUTH
