"""What people type in or hand over: fingerprints, passphrases and files of other sites."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from privfin.errors import ProtocolError, UserInputError

if TYPE_CHECKING:
    from privfin.crypto.key_files import Passphrase
    from privfin.crypto.keys import SitePublic
    from privfin.crypto.membership import Confirm


def ask_fingerprint(given: str | None) -> Confirm:
    """Asks for the digits that were read out, or takes them from ``given``, and compares them."""

    def confirm(public: SitePublic) -> None:
        from privfin.crypto.spoken import same_spoken, spoken

        digits = given
        if digits is None:
            if not sys.stdin.isatty():
                raise UserInputError(
                    f"give --fingerprint DIGITS: call the people at site {public.name}, who see "
                    "it with privfin federation show"
                )
            digits = typer.prompt(f"Fingerprint that site {public.name} reads to you", err=True)
        if not same_spoken(digits, spoken(public.fingerprint)):
            raise ProtocolError(
                f"the keys of site {public.name} in the file have another fingerprint than the one "
                "that was read out: the file was swapped, or the digits were misheard"
            )

    return confirm


def passphrase_source(file: Path | None) -> Passphrase:
    """Reads the passphrase once, when a key file needs it: from ``file`` or from the terminal."""

    @cache
    def ask() -> bytes:
        if file is not None:
            return _from_file(file)
        return _from_terminal("Passphrase of the key files: ")

    return ask


def new_passphrase(wanted: bool, file: Path | None) -> bytes | None:
    """The passphrase for new key files, or None if they get none."""
    if file is not None:
        return _from_file(file)
    if not wanted:
        return None
    given = _from_terminal("New passphrase: ")
    if _from_terminal("The same once more: ") != given:
        raise UserInputError("the two passphrases differ: nothing was made")
    return given


def read_file(path: Path, most: int) -> bytes:
    """The bytes of a file that somebody handed over.

    Raises:
        UserInputError: it cannot be read.
        ProtocolError: it has more than ``most`` bytes.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(most + 1)
    except OSError as error:
        raise UserInputError(f"cannot read {path}: {error.strerror}") from error
    if len(content) > most:
        raise ProtocolError(f"{path} is too large: more than {most} bytes")
    return content


def _from_file(file: Path) -> bytes:
    from privfin.crypto.key_files import read_private

    return read_private(file, 4096).rstrip(b"\r\n")


def _from_terminal(prompt: str) -> bytes:
    from getpass import getpass

    if not sys.stdin.isatty():
        raise UserInputError("a passphrase is needed: give --passphrase-file FILE")
    try:
        return getpass(prompt).encode()
    except EOFError:
        raise UserInputError("a passphrase is needed") from None
