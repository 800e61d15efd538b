"""The steps of a federation's life: found, join, admit, remove, rotate, accept.

The keeper founds it and makes every later version of the roster; all other sites accept versions.
Each step changes a home whole or not at all (see ``federation_home``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from privfin.crypto.bfv import BfvKey
from privfin.crypto.ceremony import CeremonyMessage, seal_message
from privfin.crypto.federation_home import (
    REQUEST,
    changing,
    commit,
    federation_folder,
    federations,
    load_federation_key,
    load_identity,
    load_roster,
    new_folder,
    outgoing_folder,
    passphrase_for,
    write_identity,
)
from privfin.crypto.home_state import HomeState, write_state
from privfin.crypto.key_files import Passphrase, check_passphrase
from privfin.crypto.keys import SiteIdentity, SitePublic
from privfin.crypto.pack import Packing
from privfin.crypto.roster_file import SignedRoster
from privfin.crypto.site_entry import SiteEntry, check_word, read_request, request_text
from privfin.errors import ProtocolError, UserInputError, nearest
from privfin.files import write_bytes

Confirm = Callable[[SitePublic], None]
"""Raises unless a person has compared the fingerprint of a site's keys with that site's people."""


@dataclass(frozen=True)
class Issued:
    """A new version at the keeper: its roster and the folder with a message for each other site."""

    roster: SignedRoster
    messages: tuple[Path, ...]


def found(
    home: Path,
    federation: str,
    site: str,
    modalities: tuple[str, ...],
    layout: str,
    passphrase: bytes | None,
) -> SignedRoster:
    """Found a federation: this site becomes its keeper and makes the first federation key.

    Raises:
        UserInputError: a name, modality or layout that is not valid, or the home takes part in a
            federation of this name already.
    """
    packing = Packing.named(layout)
    check_passphrase(passphrase)
    identity = SiteIdentity.generate(check_word(site, "site"))
    own = SiteEntry.sign(identity, federation, modalities)
    key = BfvKey.generate(packing)
    roster = SignedRoster.found(identity, federation, own, key.public().key_id, layout)
    with new_folder(home, federation) as folder:
        write_identity(folder, federation, identity, passphrase)
        commit(folder, HomeState(site).advance(roster, 0), roster, key, passphrase, {})
    return roster


def join(
    home: Path,
    federation: str,
    site: str,
    modalities: tuple[str, ...],
    new_passphrase: bytes | None,
    passphrase: Passphrase | None = None,
) -> bytes:
    """The request to hand to the keeper; makes this site's identity if there is none yet.

    Later calls keep the identity: they give the same request again, or one with other modalities.

    Args:
        home: of this site.
        federation: its name.
        site: name of this site.
        modalities: what it declares to hold.
        new_passphrase: protects key files that are made now, None for none.
        passphrase: opens those that are there.

    Raises:
        UserInputError: a name or modality that is not valid, or this home is another site.
    """
    check_word(federation, "federation")
    check_word(site, "site")
    if federation in federations(home):
        return _request_again(home, federation, site, modalities, passphrase)
    check_passphrase(new_passphrase)
    identity = SiteIdentity.generate(site)
    request = request_text(SiteEntry.sign(identity, federation, modalities), federation)
    with new_folder(home, federation) as new:
        write_identity(new, federation, identity, new_passphrase)
        write_bytes(new / REQUEST, request)
        write_state(new, HomeState(site))
    return request


def _request_again(
    home: Path,
    federation: str,
    site: str,
    modalities: tuple[str, ...],
    passphrase: Passphrase | None,
) -> bytes:
    folder = federation_folder(home, federation)
    with changing(folder) as state:
        if state.site != site:
            raise UserInputError(
                f"this home is site {state.site} of federation '{federation}', not {site}"
            )
        identity = load_identity(home, federation, passphrase)
        request = request_text(SiteEntry.sign(identity, federation, modalities), federation)
        write_bytes(folder / REQUEST, request)
    return request


def admit(
    home: Path, request: bytes, confirm: Confirm, passphrase: Passphrase | None = None
) -> Issued:
    """At the keeper: list the site of a request, or its new modalities. The key stays.

    Args:
        home: of the keeper.
        request: bytes of :func:`join`.
        confirm: asked about the site's keys.
        passphrase: opens the keeper's key files.

    Raises:
        ProtocolError: a request that was changed, or a name that had other keys before.
        UserInputError: this site is not the keeper, or the site is listed so already.
    """
    federation, entry = read_request(request)
    folder = federation_folder(home, federation)
    with changing(folder) as state:
        roster = _as_keeper(home, federation, state)
        name = entry.public.name
        before = roster.entry(name)
        if before is not None and (before.public, before.modalities) == (
            entry.public,
            entry.modalities,
        ):
            kept = outgoing_folder(home, federation)
            hint = f"; its message is in {kept}" if kept else ""
            raise UserInputError(f"site {name} is in federation '{federation}' already{hint}")
        if before is not None and before.public != entry.public:
            raise ProtocolError(
                f"request: site {name} is listed with other keys; a site with new keys takes a new "
                "name"
            )
        confirm(entry.public)
        sites = (*(one for one in roster.sites if one.public.name != name), entry)
        key = load_federation_key(home, federation, passphrase)
        return _issue(home, state, roster, sites, key, roster.layout, passphrase)


def remove(home: Path, federation: str, site: str, passphrase: Passphrase | None = None) -> Issued:
    """At the keeper: a version without ``site``, and with a new federation key.

    Raises:
        UserInputError: this site is not the keeper, or ``site`` is not listed or is the keeper.
    """
    folder = federation_folder(home, federation)
    with changing(folder) as state:
        roster = _as_keeper(home, federation, state)
        if roster.entry(site) is None:
            raise UserInputError(
                f"site '{site}' is not in federation '{federation}'{nearest(site, roster.names())}"
            )
        if site == roster.keeper:
            raise UserInputError(f"site {site} keeps the federation and cannot leave it")
        sites = tuple(one for one in roster.sites if one.public.name != site)
        key = BfvKey.generate(Packing.named(roster.layout))
        return _issue(home, state, roster, sites, key, roster.layout, passphrase)


def rotate(
    home: Path, federation: str, layout: str | None = None, passphrase: Passphrase | None = None
) -> Issued:
    """At the keeper: a version of the same sites with a new federation key.

    Args:
        home: of the keeper.
        federation: its name.
        layout: packing of the new key; None for the present one.
        passphrase: opens the keeper's key files.

    Raises:
        UserInputError: this site is not the keeper, or there is no such layout.
    """
    folder = federation_folder(home, federation)
    with changing(folder) as state:
        roster = _as_keeper(home, federation, state)
        name = layout or roster.layout
        key = BfvKey.generate(Packing.named(name))
        return _issue(home, state, roster, roster.sites, key, name, passphrase)


def accept(
    home: Path, message: bytes, confirm: Confirm, passphrase: Passphrase | None = None
) -> SignedRoster:
    """Take a new roster and the federation key from a message of the keeper.

    Args:
        home: of this site.
        message: bytes of :func:`privfin.crypto.ceremony.seal_message`.
        confirm: asked about the keeper's keys before the first roster.
        passphrase: opens this site's key files.

    Raises:
        ProtocolError: a message that is changed, replayed, foreign, or bound to another roster or
            key; a roster that did not grow out of the accepted one.
        UserInputError: this home takes no part in the federation.
    """
    read = CeremonyMessage.read(message)
    federation = read.roster.federation
    folder = federation_folder(home, federation)
    with changing(folder) as state:
        accepted = load_roster(home, federation) if state.version else None
        if accepted is None and read.header.recipient == state.site:
            confirm(read.roster.keeper_public())
        identity = load_identity(home, federation, passphrase)
        opened = read.open(identity, accepted, state.number)
        new_state = state.advance(opened.roster, opened.number)
        secret = passphrase_for(folder, passphrase)
        commit(folder, new_state, opened.roster, opened.key, secret, {})
    return opened.roster


def _as_keeper(home: Path, federation: str, state: HomeState) -> SignedRoster:
    roster = load_roster(home, federation)
    if roster.keeper != state.site:
        raise UserInputError(
            f"only the keeper, site {roster.keeper}, changes federation '{federation}'"
        )
    return roster


def _issue(
    home: Path,
    state: HomeState,
    roster: SignedRoster,
    sites: tuple[SiteEntry, ...],
    key: BfvKey,
    layout: str,
    passphrase: Passphrase | None,
) -> Issued:
    federation = roster.federation
    folder = federation_folder(home, federation)
    identity = load_identity(home, federation, passphrase)
    new = roster.next(identity, sites=sites, key_id=key.public().key_id, layout=layout)
    others = [name for name in new.names() if name != identity.name]
    messages = {
        f"{federation}-v{new.version}-{name}.ceremony": seal_message(
            identity, new, key, name, state.number + place
        )
        for place, name in enumerate(others, start=1)
    }
    new_state = state.advance(new, state.number + len(others))
    commit(folder, new_state, new, key, passphrase_for(folder, passphrase), messages)
    target = folder / f"outgoing-{new.version}"
    return Issued(new, tuple(target / name for name in messages))
