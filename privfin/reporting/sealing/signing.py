"""The key that signs reports.

It is neither the ledger's key nor a site's: a ledger signs its own rows and a site its messages,
without anybody being asked. A report is signed by a person who answers for it, with a key that this
person keeps.
"""

from __future__ import annotations

import re
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from privfin.crypto.encoding import HoldsSecret
from privfin.crypto.key_files import read_private, write_private
from privfin.errors import UserInputError

_PUBLIC = re.compile(r"[0-9a-f]{64}")


class ReportKey(HoldsSecret):
    """An Ed25519 key (RFC 8032) for reports. Made by :meth:`make` or read by :meth:`read`."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @classmethod
    def make(cls, path: Path) -> ReportKey:
        """A fresh key, kept in ``path`` (PEM, PKCS#8, mode 0600).

        Raises:
            UserInputError: there is a file already, or it cannot be written.
        """
        key = Ed25519PrivateKey.generate()
        write_private(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return cls(key)

    @classmethod
    def read(cls, path: Path) -> ReportKey:
        """The key in ``path``.

        Raises:
            UserInputError: it is missing, others may read it, it is encrypted, of another kind, or
                no private key at all.
        """
        data = read_private(path)
        if b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in data:
            raise UserInputError(
                f"{path} is encrypted: a report is signed with a key that only its file's mode "
                "protects; make one with privfin report key"
            )
        try:
            key = load_pem_private_key(data, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise UserInputError(
                f"{path} is not a private key in PEM: make one with privfin report key"
            ) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise UserInputError(
                f"{path} holds a key of another kind: reports are signed with Ed25519"
            )
        return cls(key)

    @property
    def public(self) -> str:
        """The public key, 64 hexadecimal digits."""
        return self._key.public_key().public_bytes_raw().hex()

    def sign(self, message: bytes) -> bytes:
        """The signature of ``message``, 64 bytes."""
        return self._key.sign(message)


def check_public_key(text: str) -> str:
    """Return ``text`` if it can be a public key: 64 hexadecimal digits, as ``privfin report key``
    prints them. UserInputError if not."""
    if not _PUBLIC.fullmatch(text):
        raise UserInputError(
            f"{text!r} is not a public key: give the 64 hexadecimal digits that privfin report key "
            "printed"
        )
    return text
