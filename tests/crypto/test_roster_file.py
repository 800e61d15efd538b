"""The signed roster: what the keeper wrote is read, and nothing else, and only forwards."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privfin.crypto.keys import SiteIdentity, SitePublic
from privfin.crypto.roster_file import SignedRoster, check_successor, read_roster
from privfin.crypto.site_entry import SiteEntry, read_request, request_text
from privfin.crypto.spoken import same_spoken, spoken
from privfin.errors import ProtocolError, UserInputError

NORTH, SOUTH, WEST, EVE = (SiteIdentity.generate(n) for n in ("north", "south", "west", "eve"))
KEYS = [f"{number:064x}" for number in range(5)]


def entry(identity: SiteIdentity, *modalities: str, federation: str = "lungs") -> SiteEntry:
    return SiteEntry.sign(identity, federation, modalities or ("image", "text"))


def founded(keeper: SiteIdentity = NORTH, federation: str = "lungs") -> SignedRoster:
    own = entry(keeper, federation=federation)
    return SignedRoster.found(keeper, federation, own, KEYS[0], "2x20")


def following(roster: SignedRoster, *sites: SiteIdentity, key: int = 0) -> SignedRoster:
    entries = tuple(entry(site) for site in sites)
    return roster.next(NORTH, sites=entries, key_id=KEYS[key], layout="2x20")


V1 = founded()
V2 = following(V1, NORTH, SOUTH)
V3 = following(V2, SOUTH, WEST, NORTH)
V4 = following(V3, NORTH, SOUTH, key=1)


def signed_anyway(roster: SignedRoster, signer: SiteIdentity = NORTH) -> bytes:
    """A dishonest keeper's file: signed, whatever it says."""
    return replace(roster, signature=signer.sign(roster._signed_bytes())).to_bytes()


def test_round_trip_and_what_it_yields() -> None:
    for roster in (V1, V2, V3, V4):
        assert read_roster(roster.to_bytes()) == roster
    assert [one.version for one in (V1, V2, V3, V4)] == [1, 2, 3, 4]
    assert V4.history == (V1.digest, V2.digest, V3.digest)
    pinned = V3.roster()
    assert dict(pinned) == {s.name: s.public() for s in (NORTH, SOUTH, WEST)}
    assert (pinned.version, V3.names()) == (3, ("north", "south", "west"))
    # The same sites in another version: envelopes of the one are not taken for the other's.
    assert V2.roster().digest != V4.roster().digest


def test_every_flipped_bit_and_every_cut_is_refused() -> None:
    whole = V2.to_bytes()
    for bit in range(0, 8 * len(whole), 3):  # two or three of every byte
        bad = bytearray(whole)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ProtocolError):
            read_roster(bytes(bad))
    for end in range(len(whole)):
        with pytest.raises(ProtocolError):
            read_roster(whole[:end])


@settings(max_examples=60)
@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda t: t.encode("utf-8", "replace")))
def test_random_files_are_refused(data: bytes) -> None:
    for read in (read_roster, read_request):
        with pytest.raises(ProtocolError):
            read(data)


@pytest.mark.parametrize(
    "data",
    [
        b"a = " + b"[" * 600,
        b"a = " + b"[" * 100_000,
        b"a" + b".a" * 500_000 + b" = 1",  # minutes in a TOML parser
        b"".join(b"[" + b".".join([b"a"] * k) + b".b]\n" for k in range(700)),
        b"a = {" * 200_000,
        b"".join(b"k%d = 1\n" % k for k in range(90_000)),
        b"[[site]]\n" * 100_000,
        b"a = " + b"[],\n" * 200_000,
        b'a = """\n' + b"#\n" * 500_000,
        b"#" * 2**21,
        b"\x00",
    ],
    ids=range(11),
)
def test_hostile_files_are_refused_soon(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_roster(data)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("format = 1", "format = 2", "format 2"),
        ("version = 2", "version = 3", "does not fit its history"),
        ("version = 2", 'version = "2"', "'version' is not valid"),
        ("version = 2", "version = true", "'version' is not valid"),
        ("version = 2", "version = 2\nadmin = 1", "unknown field 'admin'"),
        ('layout = "2x20"', 'layout = "2x20"\nsecret = 1', "key: unknown field 'secret'"),
        ('layout = "2x20"', 'layout = "9x9"', "unknown packing"),
        ('layout = "2x20"', 'layout = "3x15"', "signature of its keeper north"),
        ('modalities = ["image", "text"]', 'modalities = ["image"]', "did not sign"),
        ('name = "south"', 'name = "eve"', "site eve did not sign"),
        ('name = "south"', 'name = "north"', "site north did not sign"),
        ('name = "south"', 'name = "../x"', "cannot name a site"),
        ('keeper = "north"', 'keeper = "south"', "signature of its keeper south"),
        ('keeper = "north"', 'keeper = "nobody"', "keeper 'nobody' is not a site"),
        ('federation = "lungs"', 'federation = "hips"', "did not sign"),
        ("# Digests", "# Digest", "changed by hand"),
        ("\n", "\r\n", "changed by hand"),
        (KEYS[0], KEYS[0].replace("0", "G"), "not 64 small"),
    ],
)
def test_refuses_a_changed_file_and_says_what(old: str, new: str, reason: str) -> None:
    text = V2.to_bytes().decode()
    assert old in text
    with pytest.raises(ProtocolError, match=reason):
        read_roster(text.replace(old, new).encode())


def test_a_dishonest_keeper_cannot_change_what_a_site_said_of_itself() -> None:
    south = entry(SOUTH)
    swapped = SitePublic("south", SOUTH.public().ed25519, EVE.public().x25519)
    for bad in (
        replace(south, public=swapped),
        replace(south, modalities=("image",)),
        entry(SOUTH, federation="hips"),
    ):
        with pytest.raises(ProtocolError, match="site south did not sign"):
            read_roster(signed_anyway(replace(V2, sites=(entry(NORTH), bad))))
    with pytest.raises(ProtocolError, match="share a name or a key"):
        read_roster(signed_anyway(replace(V2, sites=(entry(NORTH), south, south))))


def test_only_the_keeper_signs() -> None:
    with pytest.raises(ProtocolError, match="signature of its keeper north does not hold"):
        read_roster(signed_anyway(V2, SOUTH))
    with pytest.raises(ProtocolError, match="only its keeper north"):
        V2.next(SOUTH, sites=V2.sites, key_id=KEYS[1], layout="2x20")


def test_versions_are_accepted_forwards_even_over_a_gap() -> None:
    for old, new in ((V1, V2), (V2, V3), (V3, V4), (V1, V4), (V2, V4)):
        check_successor(old, new)


def test_refuses_rollback_fork_and_another_federation() -> None:
    for old, new in ((V2, V1), (V4, V2), (V3, V3)):
        with pytest.raises(ProtocolError, match="is not newer than version"):
            check_successor(old, new)
    # The keeper shows one site west and the other one eve, then goes on with the first story.
    other_v3 = following(V2, NORTH, SOUTH, EVE)
    with pytest.raises(ProtocolError, match="different rosters to different sites"):
        check_successor(other_v3, V4)
    with pytest.raises(ProtocolError, match="not 'lungs'"):
        check_successor(V1, founded(federation="hips"))


def test_refuses_a_changed_keeper() -> None:
    other = SiteIdentity.generate("north")
    taken = replace(
        founded(other), sites=(entry(other), entry(SOUTH)), history=(V1.digest,), key_id=KEYS[1]
    )
    new = read_roster(signed_anyway(taken, other))  # whole in itself
    with pytest.raises(ProtocolError, match="keeper is not north"):
        check_successor(V1, new)
    south_rules = replace(V3, keeper="south", history=(*V3.history[:1], V2.digest), key_id=KEYS[1])
    with pytest.raises(ProtocolError, match="keeper is not north"):
        check_successor(V2, read_roster(signed_anyway(south_rules, SOUTH)))


def test_refuses_new_keys_under_an_old_name() -> None:
    again = SiteIdentity.generate("south")
    with pytest.raises(ProtocolError, match="site south has other keys"):
        following(V2, NORTH, again)


def test_refuses_the_old_key_once_a_site_left() -> None:
    with pytest.raises(ProtocolError, match="site west left, but the federation key is the old"):
        following(V3, NORTH, SOUTH)


def test_requests_round_trip_and_every_flipped_bit_is_refused() -> None:
    whole = request_text(entry(SOUTH, "text"), "lungs")
    assert read_request(whole) == ("lungs", entry(SOUTH, "text"))
    for bit in range(8 * len(whole)):
        bad = bytearray(whole)
        bad[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ProtocolError):
            read_request(bytes(bad))


@pytest.mark.parametrize(
    ("federation", "modalities"),
    [
        ("Lungs", ("image",)),
        ("", ("image",)),
        ("a/b", ("image",)),
        ("lungs", ()),
        ("lungs", ("image", "image")),
        ("lungs", ("image", "")),
        ("lungs", ('x"',)),
        ("lungs", tuple("abcdefghijklmnopq")),
    ],
)
def test_refuses_names_and_modalities(federation: str, modalities: tuple[str, ...]) -> None:
    with pytest.raises(UserInputError):
        SiteEntry.sign(SOUTH, federation, modalities)


def test_fingerprints_are_digits_that_differ_and_compare_however_they_are_grouped() -> None:
    one, two = (spoken(site.public().fingerprint) for site in (NORTH, SOUTH))
    assert [len(group) for group in one.split()] == [5] * 8
    assert same_spoken(one.replace(" ", "-"), one) and same_spoken(
        f" {one.replace(' ', '')}\n", one
    )
    assert not same_spoken(two, one)
    for bad in ("", one[:-1], f"{one} 1", one.replace(one[0], "x"), "٣" * 40):
        with pytest.raises(UserInputError, match="8 groups of 5 digits"):
            same_spoken(bad, one)
