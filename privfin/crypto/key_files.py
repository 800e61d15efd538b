"""Private keys on disk: files of mode 0600 in a format of their own, protected if wanted.

Layout, integers big-endian::

    5  magic "PFKF" and version 1      1  kind      1  protection: 0 none, 1 passphrase
    2  length of the label             n  label: whose key it is, UTF-8
    [ 1  log2 of scrypt's N           16  salt ]    only with a passphrase
    4  length of the content           n  content  32  SHA-256 of everything before

With a passphrase the content is ChaCha20-Poly1305 (RFC 8439) over the key, with everything before
it as associated data, under a key from scrypt (RFC 7914; r = 8, p = 1). The checksum finds
accidents: a key without a passphrase is protected by the file's mode alone.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from enum import IntEnum
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from privfin.errors import UserInputError
from privfin.files import clear_disk_errors

_MAGIC = b"PFKF\x01"
_CHECKSUM = 32
_SALT = 16
_MAX_LABEL = 512
_MAX_BYTES = 2**24
_WORK = 17
_WORK_RANGE = range(14, 21)  # 16 MiB to 1 GiB of memory: less is weak, more is a trap
MIN_PASSPHRASE = 8
"""Fewest bytes of a passphrase."""

Passphrase = Callable[[], bytes]
"""Where a passphrase comes from; called only when a file needs one."""


class KeyKind(IntEnum):
    """What a key file holds."""

    IDENTITY = 1
    FEDERATION = 2


def check_passphrase(passphrase: bytes | None) -> None:
    """Raise UserInputError for a passphrase that is too short; None is no passphrase."""
    if passphrase is not None and len(passphrase) < MIN_PASSPHRASE:
        raise UserInputError(f"a passphrase needs at least {MIN_PASSPHRASE} characters")


def write_key_file(
    path: Path,
    kind: KeyKind,
    label: str,
    secret: bytes,
    passphrase: bytes | None = None,
    *,
    work: int = _WORK,
) -> None:
    """Write a new key file: mode 0600, whole or not at all. It never replaces a file.

    Args:
        path: where; its folder must exist.
        kind: what it holds.
        label: whose key it is; a reader must ask for the same.
        secret: the key.
        passphrase: protects it, at least 8 bytes; None for the file's mode alone.
        work: log2 of scrypt's N, 14 to 20; 17 takes 128 MiB and about half a second.

    Raises:
        UserInputError: the file exists, the disk is full, or the passphrase is too short.
    """
    head = _MAGIC + bytes([kind, passphrase is not None])
    head += len(label.encode()).to_bytes(2, "big") + label.encode()
    content = secret
    if passphrase is None:
        head += len(content).to_bytes(4, "big")
    else:
        check_passphrase(passphrase)
        salt = secrets.token_bytes(_SALT)
        head += bytes([work]) + salt + (len(secret) + 16).to_bytes(4, "big")
        # The key serves one file, since its salt is fresh: a zero nonce is safe.
        cipher = ChaCha20Poly1305(_derive(passphrase, salt, work))
        content = cipher.encrypt(bytes(12), secret, head)
    whole = head + content
    write_private(path, whole + hashlib.sha256(whole).digest())


def read_key_file(
    path: Path, kind: KeyKind, label: str, passphrase: Passphrase | None = None
) -> bytes:
    """The key in a file of :func:`write_key_file`.

    Raises:
        UserInputError: it is missing, others may read it, it is damaged, of another kind or for
            somebody else, or the passphrase is missing or wrong.
    """
    data = read_private(path)
    damaged = UserInputError(f"{path} is damaged: put it back from a safe copy")
    whole, checksum = data[:-_CHECKSUM], data[-_CHECKSUM:]
    if data[: len(_MAGIC)] != _MAGIC:
        raise UserInputError(f"{path} is not a privfin key file of this version")
    if hashlib.sha256(whole).digest() != checksum:
        raise damaged
    at = len(_MAGIC)
    found, protection = whole[at : at + 2].ljust(2, b"\xff")
    size = int.from_bytes(whole[at + 2 : at + 4], "big")
    at += 4 + size
    if protection > 1 or size > _MAX_LABEL:
        raise damaged
    if found != kind or whole[at - size : at] != label.encode():
        raise UserInputError(f"{path} is not the {kind.name.lower()} key of {label}")
    work, salt = 0, b""
    if protection:
        work, salt = int.from_bytes(whole[at : at + 1], "big"), whole[at + 1 : at + 1 + _SALT]
        at += 1 + _SALT
        if work not in _WORK_RANGE:
            raise damaged
    length = int.from_bytes(whole[at : at + 4], "big")
    at += 4
    content = whole[at:]
    if length != len(content) or at > len(whole):
        raise damaged
    if not protection:
        return content
    if passphrase is None:
        raise UserInputError(f"{path} is protected: a passphrase is needed")
    try:
        cipher = ChaCha20Poly1305(_derive(passphrase(), salt, work))
        return cipher.decrypt(bytes(12), content, whole[:at])
    except InvalidTag:
        raise UserInputError(f"the passphrase does not open {path}") from None


def is_protected(path: Path) -> bool:
    """Whether a passphrase protects a key file; UserInputError if it cannot be read or is none."""
    data = read_private(path)
    if data[: len(_MAGIC)] != _MAGIC or len(data) < len(_MAGIC) + 2:
        raise UserInputError(f"{path} is not a privfin key file of this version")
    return data[len(_MAGIC) + 1] != 0


def read_private(path: Path, max_bytes: int = _MAX_BYTES) -> bytes:
    """The bytes of a file that only its owner may read or write.

    Raises:
        UserInputError: it is missing, no plain file, too large, or its mode lets others in.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as stream:
            # Asked of the open file, so that nothing can be swapped in between.
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise UserInputError(f"{path} is not a file")
            if status.st_mode & 0o077:
                raise UserInputError(
                    f"others may read or write {path}: run chmod 600 on it, and find out why"
                )
            content = stream.read(max_bytes + 1)
    except FileNotFoundError:
        raise UserInputError(f"{path} is missing: put it back from a safe copy") from None
    except OSError as error:
        raise UserInputError(f"cannot read {path}: {error.strerror}") from error
    if len(content) > max_bytes:
        raise UserInputError(f"{path} is too large: more than {max_bytes} bytes")
    return content


def _derive(passphrase: bytes, salt: bytes, work: int) -> bytes:
    if work not in _WORK_RANGE:
        raise ValueError(f"work must be from {_WORK_RANGE[0]} to {_WORK_RANGE[-1]}, got {work}")
    return Scrypt(salt=salt, length=32, n=2**work, r=8, p=1).derive(passphrase)


def write_private(path: Path, content: bytes) -> None:
    """Write a new file of mode 0600, whole or not at all.

    Raises:
        UserInputError: it exists, or cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with clear_disk_errors(path):
        try:
            with suppress(FileNotFoundError):  # of a process of this number that was killed
                temporary.unlink()
            descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            try:
                os.link(temporary, path)  # a rename would replace a file without a word
            except FileExistsError:
                raise UserInputError(f"{path} exists: a key is never written over") from None
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()
