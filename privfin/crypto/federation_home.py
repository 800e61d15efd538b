"""What a site keeps of a federation, and one function each to load it for a run.

``HOME/federation/NAME`` (mode 0700) holds::

    identity.key         the site's private keys        federation-ID.key   the shared key
    request.toml         with which the site joined     outgoing-N/         messages to hand out
    roster-N.toml        every roster accepted          state.json          which of them holds

``state.json`` is replaced last, in one step, and says which roster, key and message number hold.
Whatever else an interrupted command leaves behind is not named there and goes with the next one.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from privfin.crypto.bfv import BfvKey
from privfin.crypto.home_state import STATE, HomeState, read_state, write_state
from privfin.crypto.key_files import (
    KeyKind,
    Passphrase,
    is_protected,
    read_key_file,
    write_key_file,
)
from privfin.crypto.keys import SiteIdentity
from privfin.crypto.pack import Packing
from privfin.crypto.roster_file import SignedRoster, read_roster
from privfin.crypto.site_entry import check_word
from privfin.errors import ProtocolError, UserInputError, nearest
from privfin.files import clear_disk_errors, write_bytes

_FOLDER = "federation"
_IDENTITY = "identity.key"
REQUEST = "request.toml"


def federations(home: Path) -> list[str]:
    """Names of the federations that this home takes part in, sorted."""
    folder = home / _FOLDER
    if not folder.is_dir():
        return []
    return sorted(one.name for one in folder.iterdir() if (one / STATE).is_file())


def federation_folder(home: Path, federation: str) -> Path:
    """Where this home keeps ``federation``; UserInputError if it takes no part in it."""
    check_word(federation, "federation")
    folder = home / _FOLDER / federation
    if not (folder / STATE).is_file():
        known = federations(home)
        raise UserInputError(
            f"there is no federation '{federation}' in {home}: privfin federation new or join "
            f"makes one{nearest(federation, known)}"
        )
    return folder


def load_identity(
    home: Path, federation: str, passphrase: Passphrase | None = None
) -> SiteIdentity:
    """This site's private keys; UserInputError as for :func:`read_key_file`."""
    folder = federation_folder(home, federation)
    site = read_state(folder).site
    label = f"{federation}/{site}"
    secret = read_key_file(folder / _IDENTITY, KeyKind.IDENTITY, label, passphrase)
    return SiteIdentity.from_secret_bytes(site, secret)


def load_roster(home: Path, federation: str) -> SignedRoster:
    """The roster that this site accepted last.

    Raises:
        UserInputError: there is none yet.
        ProtocolError: the file is missing, changed, or not the one that was accepted.
    """
    folder = federation_folder(home, federation)
    state = read_state(folder)
    if not state.version:
        raise UserInputError(
            f"site {state.site} is not in federation '{federation}' yet: hand {folder / REQUEST} "
            "to its keeper, and take what comes back with privfin federation accept FILE"
        )
    path = folder / f"roster-{state.version}.toml"
    try:
        roster = read_roster(path.read_bytes())
    except OSError as error:
        raise ProtocolError(f"cannot read {path}: {error.strerror}") from error
    except ProtocolError as error:
        raise ProtocolError(f"{path}: {error}") from error
    if (roster.federation, roster.digest) != (federation, state.digest):
        raise ProtocolError(f"{path} is not the roster that was accepted here")
    return roster


def load_federation_key(
    home: Path, federation: str, passphrase: Passphrase | None = None
) -> BfvKey:
    """The federation key that the accepted roster names.

    Raises:
        UserInputError: as for :func:`read_key_file`, or the file holds another key.
        ProtocolError: as for :func:`load_roster`.
    """
    roster = load_roster(home, federation)
    folder = federation_folder(home, federation)
    path = folder / _key_name(roster.key_id)
    label = f"{federation}/{roster.key_id}"
    secret = read_key_file(path, KeyKind.FEDERATION, label, passphrase)
    try:
        key = BfvKey.from_secret_bytes(secret, Packing.named(roster.layout))
    except ProtocolError as error:
        raise UserInputError(f"{path} is damaged: {error}") from error
    if key.public().key_id != roster.key_id:
        raise UserInputError(f"{path} is not the federation key that the roster names")
    return key


def passphrase_for(folder: Path, passphrase: Passphrase | None) -> bytes | None:
    """The passphrase that new key files in ``folder`` get: the identity's, or none."""
    if passphrase is not None and is_protected(folder / _IDENTITY):
        return passphrase()
    return None


def outgoing_folder(home: Path, federation: str) -> Path | None:
    """At the keeper: the messages of the present version; None where there are none."""
    folder = federation_folder(home, federation)
    found = folder / f"outgoing-{read_state(folder).version}"
    return found if found.is_dir() else None


@contextmanager
def new_folder(home: Path, federation: str) -> Iterator[Path]:
    """Yields a folder to fill, which appears as the federation's folder when all is written.

    Raises:
        UserInputError: this home takes part in ``federation`` already, or lies in a run directory.
    """
    check_word(federation, "federation")
    whole = home.absolute()
    for one in (whole, *whole.parents):
        if (one / "events.jsonl").exists() and (one / "manifest.json").exists():
            raise UserInputError(f"{one} is a run directory: keys do not belong there, see --home")
    folder = home / _FOLDER / federation
    if folder.exists():
        raise UserInputError(f"{folder} exists: this home takes part in '{federation}' already")
    temporary = folder.with_name(f".{federation}.{os.getpid()}.tmp")
    with clear_disk_errors(folder):
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        for leftover in folder.parent.glob(f".{federation}.*.tmp"):  # of a killed command
            shutil.rmtree(leftover, ignore_errors=True)
        try:
            temporary.mkdir(mode=0o700)
            yield temporary
            _sync(temporary)
            temporary.rename(folder)
            _sync(folder.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def changing(folder: Path) -> Iterator[HomeState]:
    """Hold the folder for this process alone and clear what an interrupted command left.

    Raises:
        UserInputError: another process is changing it.
    """
    with clear_disk_errors(folder), (folder / "lock").open("ab") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserInputError(
                f"another privfin command is changing {folder}: wait for it to end"
            ) from None
        state = read_state(folder)
        _tidy(folder, state)
        yield state


def write_identity(
    folder: Path, federation: str, identity: SiteIdentity, passphrase: bytes | None
) -> None:
    """Write a new identity into a folder of :func:`new_folder`."""
    label = f"{federation}/{identity.name}"
    secret = identity.secret_bytes()
    write_key_file(folder / _IDENTITY, KeyKind.IDENTITY, label, secret, passphrase)


def commit(
    folder: Path,
    state: HomeState,
    roster: SignedRoster,
    key: BfvKey,
    passphrase: bytes | None,
    outgoing: dict[str, bytes],
) -> None:
    """Make ``state`` hold, with its roster, key and messages to hand out, or change nothing.

    Args:
        folder: held by :func:`changing`, or of :func:`new_folder`.
        state: of :meth:`HomeState.advance` for ``roster``.
        roster: the version that holds from now on.
        key: the federation key it names; written if it is not there yet.
        passphrase: protects the key's file.
        outgoing: messages by file name; none at other sites than the keeper.
    """
    read_roster(roster.to_bytes())  # what could not be read back must not hold
    path = folder / _key_name(roster.key_id)
    if not path.exists():
        label = f"{roster.federation}/{roster.key_id}"
        write_key_file(path, KeyKind.FEDERATION, label, key.secret_bytes(), passphrase)
    if outgoing:
        target = folder / f"outgoing-{roster.version}"
        with clear_disk_errors(target):
            target.mkdir(mode=0o700)
        for name, message in outgoing.items():
            write_bytes(target / name, message)
        _sync(target)
    write_bytes(folder / f"roster-{roster.version}.toml", roster.to_bytes())
    _sync(folder)
    write_state(folder, state)
    _sync(folder)
    _tidy(folder, state)


def _key_name(key_id: str) -> str:
    return f"federation-{key_id[:16]}.key"


def _tidy(folder: Path, state: HomeState) -> None:
    """Delete keys and messages that ``state`` does not name: replaced ones and leftovers."""
    kept = {_key_name(state.key_id), f"outgoing-{state.version}"}
    for pattern in ("federation-*.key", "outgoing-*", ".*.tmp"):
        for path in folder.glob(pattern):
            if path.name in kept:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):
                    path.unlink()


def _sync(folder: Path) -> None:
    """Make renames in ``folder`` last through a power cut."""
    with clear_disk_errors(folder):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
