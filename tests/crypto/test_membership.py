"""A federation's life over three homes: who may do what, and what survives an interruption."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from privfin.crypto.bfv import BfvKey
from privfin.crypto.ceremony import seal_message
from privfin.crypto.federation_home import (
    federation_folder,
    federations,
    load_federation_key,
    load_identity,
    load_roster,
)
from privfin.crypto.home_state import read_state
from privfin.crypto.key_files import is_protected
from privfin.crypto.keys import SiteIdentity, SitePublic
from privfin.crypto.membership import Issued, accept, admit, found, join, remove, rotate
from privfin.crypto.pack import Packing
from privfin.crypto.site_entry import SiteEntry, request_text
from privfin.errors import ProtocolError, UserInputError

NAME = "lungs"
WORD = b"correct horse"


def yes(public: SitePublic) -> None:
    """People compared the fingerprints."""


def never(public: SitePublic) -> None:
    raise AssertionError("nobody is to be asked")


@dataclass
class Homes:
    """Three homes in one folder; north keeps the federation."""

    root: Path

    def __getitem__(self, site: str) -> Path:
        return self.root / site

    def folder(self, site: str) -> Path:
        return federation_folder(self[site], NAME)

    def join(self, site: str) -> bytes:
        return join(self[site], NAME, site, ("text",), None)

    def add(self, site: str) -> Issued:
        return admit(self["north"], self.join(site), yes)

    def take(self, issued: Issued, *sites: str) -> None:
        for site in sites:
            accept(self[site], message(issued, site), yes)


def message(issued: Issued, site: str) -> bytes:
    (path,) = [path for path in issued.messages if path.name.endswith(f"-{site}.ceremony")]
    return path.read_bytes()


@pytest.fixture
def homes(tmp_path: Path) -> Homes:
    found(tmp_path / "north", NAME, "north", ("image", "text"), "2x20", None)
    return Homes(tmp_path)


@pytest.fixture
def three(homes: Homes) -> Homes:
    homes.add("south")
    homes.take(homes.add("west"), "south", "west")
    return homes


def test_all_sites_load_one_roster_and_one_key(three: Homes) -> None:
    rosters = {site: load_roster(three[site], NAME) for site in ("north", "south", "west")}
    assert len({roster.digest for roster in rosters.values()}) == 1
    assert rosters["south"].names() == ("north", "south", "west")
    slots = np.arange(50, dtype=np.int64)
    blobs = load_federation_key(three["north"], NAME).public().encrypt(slots)
    for site, roster in rosters.items():
        assert load_identity(three[site], NAME).public() == roster.roster()[site]
        key = load_federation_key(three[site], NAME)
        assert key.public().key_id == roster.key_id
        assert np.array_equal(key.decrypt(blobs, 50), slots)


def test_keys_are_for_their_owner_alone(three: Homes) -> None:
    for site in ("north", "south"):
        folder = three.folder(site)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        keys = sorted(path.name for path in folder.glob("*.key"))
        assert len(keys) == 2 and keys[1] == "identity.key"
        for name in keys:
            assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    secret = load_identity(three["south"], NAME).secret_bytes()[5:37]
    shared = load_federation_key(three["south"], NAME).secret_bytes()[-64:]
    for path in three.root.rglob("*"):
        if path.is_file() and path.suffix != ".key":
            content = path.read_bytes()
            assert secret not in content and secret.hex().encode() not in content
            assert shared not in content


def test_a_site_that_leaves_takes_no_key_that_still_counts(three: Homes) -> None:
    before = load_roster(three["north"], NAME)
    old_key = load_federation_key(three["west"], NAME)
    issued = remove(three["north"], NAME, "west")
    assert [path.name for path in issued.messages] == ["lungs-v4-south.ceremony"]
    three.take(issued, "south")
    for site in ("north", "south"):
        roster = load_roster(three[site], NAME)
        assert roster.names() == ("north", "south") and roster.key_id != before.key_id
        key = load_federation_key(three[site], NAME)
        assert key.public().key_id != old_key.public().key_id
        # The old key is gone, so what was recorded cannot be opened with it later.
        assert len(list(three.folder(site).glob("federation-*.key"))) == 1
        assert old_key.secret_bytes() not in b"".join(
            path.read_bytes() for path in three.folder(site).rglob("*") if path.is_file()
        )
    blobs = key.public().encrypt(np.ones(10, dtype=np.int64))
    assert not np.array_equal(old_key.decrypt(blobs, 10), np.ones(10))
    with pytest.raises(ProtocolError, match="it is for site south"):
        accept(three["west"], message(issued, "south"), never)


def test_rotation_gives_all_sites_a_new_key_and_layout(three: Homes) -> None:
    before = load_roster(three["north"], NAME)
    issued = rotate(three["north"], NAME, "3x15")
    three.take(issued, "west", "south")
    for site in ("north", "south", "west"):
        roster = load_roster(three[site], NAME)
        assert (roster.version, roster.layout) == (4, "3x15")
        assert roster.key_id != before.key_id and roster.names() == before.names()
        assert load_federation_key(three[site], NAME).public().packing.name == "3x15"


def test_a_retired_key_and_a_name_with_new_keys_never_come_back(three: Homes) -> None:
    keeper, old = load_identity(three["north"], NAME), load_federation_key(three["north"], NAME)
    issued = remove(three["north"], NAME, "west")
    three.take(issued, "south")
    roster = issued.roster

    def made_by_a_dishonest_keeper(key: BfvKey, *more: SiteEntry) -> bytes:
        new = roster.next(
            keeper, sites=(*roster.sites, *more), key_id=key.public().key_id, layout="2x20"
        )
        return seal_message(keeper, new, key, "south", 1000)

    with pytest.raises(ProtocolError, match="brings back a retired key"):
        accept(three["south"], made_by_a_dishonest_keeper(old), never)
    impostor = SiteEntry.sign(SiteIdentity.generate("west"), NAME, ("text",))
    key = BfvKey.generate(Packing.named("2x20"))
    with pytest.raises(ProtocolError, match="site west was listed before with other keys"):
        accept(three["south"], made_by_a_dishonest_keeper(key, impostor), never)
    assert load_roster(three["south"], NAME) == roster


def test_messages_are_taken_once_and_in_order(three: Homes) -> None:
    first, second = rotate(three["north"], NAME), None
    old = message(first, "south")
    second = rotate(three["north"], NAME)
    three.take(second, "south")
    for again in (old, message(second, "south")):
        with pytest.raises(ProtocolError, match="is replayed"):
            accept(three["south"], again, never)
    assert load_roster(three["south"], NAME).version == 5


def test_fingerprints_are_asked_once_each_way_and_a_no_changes_nothing(homes: Homes) -> None:
    def no(public: SitePublic) -> None:
        asked.append(public)
        raise ProtocolError("not the same")

    asked: list[SitePublic] = []
    request = homes.join("south")
    south, north = (load_identity(homes[s], NAME).public() for s in ("south", "north"))
    with pytest.raises(ProtocolError, match="not the same"):
        admit(homes["north"], request, no)
    assert load_roster(homes["north"], NAME).version == 1
    issued = homes.add("south")
    with pytest.raises(ProtocolError, match="not the same"):
        accept(homes["south"], message(issued, "south"), no)
    assert read_state(homes.folder("south")).version == 0
    assert asked == [south, north]
    homes.take(issued, "south")
    accept(homes["south"], message(rotate(homes["north"], NAME), "south"), never)


def test_only_the_keeper_changes_the_roster(three: Homes) -> None:
    request = three.join("east")
    for step in (
        lambda: admit(three["south"], request, never),
        lambda: remove(three["south"], NAME, "west"),
        lambda: rotate(three["south"], NAME),
    ):
        with pytest.raises(UserInputError, match="only the keeper, site north"):
            step()
    with pytest.raises(UserInputError, match="keeps the federation"):
        remove(three["north"], NAME, "north")
    with pytest.raises(UserInputError, match="did you mean 'south'"):
        remove(three["north"], NAME, "sout")


def test_a_site_is_added_once(homes: Homes) -> None:
    homes.add("south")
    with pytest.raises(UserInputError, match=r"already; its message is in .*outgoing-2"):
        admit(homes["north"], homes.join("south"), never)
    impostor = SiteEntry.sign(SiteIdentity.generate("south"), NAME, ("text",))
    with pytest.raises(ProtocolError, match="listed with other keys"):
        admit(homes["north"], request_text(impostor, NAME), never)


def test_join_again_keeps_the_keys_and_may_change_the_modalities(homes: Homes) -> None:
    request = homes.join("south")
    assert homes.join("south") == request
    with pytest.raises(UserInputError, match="this home is site south"):
        join(homes["south"], NAME, "west", ("text",), None)
    with pytest.raises(UserInputError, match="not in federation 'lungs' yet"):
        load_roster(homes["south"], NAME)
    homes.take(homes.add("south"), "south")
    before = load_roster(homes["south"], NAME)
    assert homes.join("south") == request
    more = join(homes["south"], NAME, "south", ("image", "text"), None)
    homes.take(admit(homes["north"], more, yes), "south")
    after = load_roster(homes["south"], NAME)
    listed = after.entry("south")
    assert listed is not None and listed.modalities == ("image", "text")
    assert (after.roster()["south"], after.key_id) == (before.roster()["south"], before.key_id)
    with pytest.raises(UserInputError, match="takes part in 'lungs' already"):
        found(homes["north"], NAME, "north", ("image",), "2x20", None)


def test_a_removed_site_comes_back_with_its_keys_and_the_new_federation_key(three: Homes) -> None:
    remove(three["north"], NAME, "west")
    three.take(three.add("west"), "west", "south")
    ids = {load_federation_key(three[s], NAME).public().key_id for s in ("north", "south", "west")}
    assert ids == {load_roster(three["west"], NAME).key_id}
    assert load_roster(three["west"], NAME).version == 5


def test_one_home_takes_part_in_several_federations(homes: Homes) -> None:
    found(homes["north"], "hips", "north", ("image",), "3x15", None)
    assert federations(homes["north"]) == ["hips", "lungs"]
    keys = {load_identity(homes["north"], name).public().ed25519 for name in ("hips", "lungs")}
    assert len(keys) == 2
    with pytest.raises(UserInputError, match="did you mean 'lungs'"):
        load_roster(homes["north"], "lung")
    # A file of one federation in the folder of another is not taken for its own.
    (homes["north"] / "federation/hips/identity.key").replace(
        homes.folder("north") / "identity.key"
    )
    with pytest.raises(UserInputError, match="is not the identity key of lungs/north"):
        load_identity(homes["north"], NAME)


def test_an_older_roster_put_back_is_refused(three: Homes) -> None:
    folder = three.folder("south")
    three.take(rotate(three["north"], NAME), "south")
    (folder / "roster-4.toml").write_bytes((folder / "roster-3.toml").read_bytes())
    with pytest.raises(ProtocolError, match="not the roster that was accepted"):
        load_federation_key(three["south"], NAME)
    (folder / "roster-4.toml").unlink()
    with pytest.raises(ProtocolError, match="cannot read"):
        load_roster(three["south"], NAME)


def test_a_passphrase_protects_every_key_file_of_a_home(tmp_path: Path) -> None:
    home = tmp_path / "north"
    found(home, NAME, "north", ("image",), "2x20", WORD)
    rotate(home, NAME, passphrase=lambda: WORD)
    files = sorted(federation_folder(home, NAME).glob("*.key"))
    assert len(files) == 2 and all(map(is_protected, files))
    assert load_federation_key(home, NAME, lambda: WORD).public().key_id
    for load in (load_identity, load_federation_key):
        with pytest.raises(UserInputError, match="passphrase"):
            load(home, NAME)


def test_keys_do_not_go_into_a_run_directory(tmp_path: Path) -> None:
    for name in ("manifest.json", "events.jsonl"):
        (tmp_path / name).touch()
    for home in (tmp_path, tmp_path / "deep/er"):
        with pytest.raises(UserInputError, match="is a run directory"):
            found(home, NAME, "north", ("image",), "2x20", None)
    assert not (tmp_path / "federation").exists() and not (tmp_path / "deep").exists()


def test_what_a_killed_command_left_goes_with_the_next(three: Homes) -> None:
    folder = three.folder("north")
    half_made = [folder.with_name(".hips.1.tmp"), folder / "outgoing-9"]
    for path in half_made:
        path.mkdir()
        (path / "identity.key").touch()
    half_made += [folder / ".state.json.1.tmp", folder / f"federation-{'0' * 16}.key"]
    for path in half_made[2:]:
        path.touch()
    found(three["north"], "hips", "north", ("image",), "2x20", None)
    rotate(three["north"], NAME)
    assert not [path for path in half_made if path.exists()]


def test_two_commands_do_not_change_one_home_at_once(three: Homes) -> None:
    with (three.folder("north") / "lock").open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(UserInputError, match="another privfin command"):
            rotate(three["north"], NAME)
    rotate(three["north"], NAME)


class Stop:
    """Lets the first ``after`` calls of the named functions pass, then raises at each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: BaseException, after: int) -> None:
        self.calls, self.error, self.after = 0, error, after
        for owner, name in (
            (os, "fsync"),
            (os, "link"),
            (Path, "replace"),
            (Path, "mkdir"),
            (Path, "rename"),
        ):
            monkeypatch.setattr(owner, name, self.wrap(getattr(owner, name)))

    def wrap(self, real: Callable[..., object]) -> Callable[..., object]:
        def call(*words: object, **options: object) -> object:
            self.calls += 1
            if self.calls > self.after:
                raise self.error
            return real(*words, **options)

        return call


STEPS = ("found", "join", "add", "remove", "rotate", "accept")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "full")])
@pytest.mark.parametrize("step", STEPS)
def test_a_step_stopped_anywhere_holds_whole_or_not_at_all(
    three: Homes, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    pending = rotate(three["north"], NAME)
    from_keeper = message(pending, "south")
    request = three.join("east")
    site = {"found": "new", "join": "new", "accept": "south"}.get(step, "north")
    run: dict[str, Callable[[], object]] = {
        "found": lambda: found(three["new"], NAME, "new", ("image",), "2x20", None),
        "join": lambda: three.join("new"),
        "add": lambda: admit(three["north"], request, yes),
        "remove": lambda: remove(three["north"], NAME, "west"),
        "rotate": lambda: rotate(three["north"], NAME),
        "accept": lambda: accept(three["south"], from_keeper, never),
    }

    def version() -> int:
        if not federations(three[site]):
            return -1
        state = read_state(three.folder(site))
        load_identity(three[site], NAME)
        if state.version:
            assert load_federation_key(three[site], NAME).public().key_id == state.key_id
        return state.version

    before, after, finished = version(), None, False
    for allowed in range(40):
        with monkeypatch.context() as patch:
            stop = Stop(patch, error, allowed)
            try:
                run[step]()
                finished = True
            except (KeyboardInterrupt, UserInputError):
                pass
        now = version()
        assert not list(three[site].rglob("*.tmp"))
        if now != before:
            after = now
            if now > 1 and site == "north":
                # What holds can be handed out, even if the command did not come to its end.
                assert list((three.folder(site) / f"outgoing-{now}").iterdir())
            break
    assert after is not None and after == max(before + 1, 0 if step == "join" else 1)
    assert finished or stop.calls > allowed
    if site == "north":  # and the next change goes on from there
        assert rotate(three["north"], NAME).roster.version == after + 1
        names = {path.name for path in three.folder("north").iterdir()}
        assert len([name for name in names if name.startswith("outgoing-")]) == 1
        assert len([name for name in names if name.startswith("federation-")]) == 1
