"""Hostile files of the key ceremony: rosters, requests, messages and key files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from privfin.crypto.bfv import BfvKey
from privfin.crypto.ceremony import CeremonyMessage, seal_message
from privfin.crypto.key_files import KeyKind, read_key_file, write_key_file
from privfin.crypto.keys import SiteIdentity
from privfin.crypto.pack import Packing
from privfin.crypto.roster_file import SignedRoster, read_roster
from privfin.crypto.site_entry import SiteEntry, read_request, request_text
from privfin.errors import PrivfinError

NORTH, SOUTH = (SiteIdentity.generate(name) for name in ("north", "south"))
KEY, OTHER_KEY = (BfvKey.generate(Packing.named("2x20")) for _ in range(2))


def entry(site: SiteIdentity, federation: str = "lungs") -> SiteEntry:
    return SiteEntry.sign(site, federation, ("image",))


def roster(key: BfvKey = KEY, federation: str = "lungs") -> SignedRoster:
    own = entry(NORTH, federation)
    first = SignedRoster.found(NORTH, federation, own, key.public().key_id, "2x20")
    sites = (own, entry(SOUTH, federation))
    return first.next(NORTH, sites=sites, key_id=key.public().key_id, layout="2x20")


def test_rosters(hostile: Any) -> None:
    good = roster().to_bytes()
    others = [roster(OTHER_KEY, "hearts").to_bytes(), request_text(entry(SOUTH), "lungs"), b"x = 1"]
    for bad in hostile.cases(good, others):
        try:
            found = read_roster(bad)
        except PrivfinError as error:
            hostile.line_of(error)
        else:  # another one that was signed as it stands
            assert bad in others
            assert found.federation == "hearts"


def test_requests(hostile: Any) -> None:
    good = request_text(entry(SOUTH), "lungs")
    others = [request_text(entry(NORTH, "hearts"), "hearts"), roster().to_bytes()]
    for bad in hostile.cases(good, others):
        try:
            federation, found = read_request(bad)
        except PrivfinError as error:
            hostile.line_of(error)
        else:
            assert (federation, found.public) == ("hearts", NORTH.public())


def test_ceremony_messages(hostile: Any) -> None:
    accepted = roster()
    good = seal_message(NORTH, accepted, KEY, "south", 5)
    others = [
        seal_message(NORTH, roster(OTHER_KEY), OTHER_KEY, "south", 6),  # grew out of another one
        seal_message(NORTH, accepted, KEY, "south", 3),  # replayed
        seal_message(NORTH, roster(KEY, "hearts"), KEY, "south", 7),
        accepted.to_bytes(),
    ]
    for bad in hostile.cases(good, others):
        with pytest.raises(PrivfinError) as found:
            CeremonyMessage.read(bad).open(SOUTH, accepted, 4)
        hostile.line_of(found.value)


@pytest.mark.parametrize("passphrase", [None, b"a long passphrase"], ids=["open", "protected"])
def test_key_files(hostile: Any, tmp_path: Path, passphrase: bytes | None) -> None:
    path, other = tmp_path / "south.key", tmp_path / "north.key"
    write_key_file(path, KeyKind.IDENTITY, "south", SOUTH.secret_bytes(), passphrase)
    write_key_file(other, KeyKind.IDENTITY, "north", NORTH.secret_bytes())
    good, others = path.read_bytes(), [other.read_bytes(), KEY.secret_bytes()]
    for bad in hostile.cases(good, others):
        path.write_bytes(bad)
        with pytest.raises(PrivfinError) as found:
            read_key_file(path, KeyKind.IDENTITY, "south", lambda: b"a long passphrase")
        assert "south.key" in hostile.line_of(found.value)
