"""The two secrets of a home: the key that signs rows and the key of patients' fingerprints."""

from __future__ import annotations

import secrets
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from privfin.crypto.encoding import HoldsSecret
from privfin.errors import LedgerError
from privfin.privacy.ledger.places import check_private, disk_errors, make_private_file

_KEY_BYTES = 32


class SigningKey(HoldsSecret):
    """The Ed25519 key (RFC 8032) of a ledger. Made by :meth:`make` or read by :meth:`read`."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @classmethod
    def make(cls, path: Path) -> SigningKey:
        """A fresh key, kept in ``path`` (0600). LedgerError if there is a file already."""
        key = Ed25519PrivateKey.generate()
        make_private_file(path, key.private_bytes_raw())
        return cls(key)

    @classmethod
    def read(cls, path: Path) -> SigningKey:
        """The key in ``path``. LedgerError if it is missing, readable by others, or no key."""
        return cls(Ed25519PrivateKey.from_private_bytes(_read_key(path)))

    @property
    def public(self) -> str:
        """The public key, 64 hexadecimal digits."""
        return self._key.public_key().public_bytes_raw().hex()

    def sign(self, message: bytes) -> str:
        """The signature of ``message``, 128 hexadecimal digits."""
        return self._key.sign(message).hex()


def signature_holds(public: str, signature: str, message: bytes) -> bool:
    """Whether ``signature`` over ``message`` is of the key ``public`` (both hexadecimal)."""
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
        key.verify(bytes.fromhex(signature), message)
    except (InvalidSignature, ValueError):
        return False
    return True


def make_fingerprint_key(path: Path) -> bytes:
    """32 fresh secret bytes, kept in ``path`` (0600). LedgerError if there is a file already."""
    key = secrets.token_bytes(_KEY_BYTES)
    make_private_file(path, key)
    return key


def read_fingerprint_key(path: Path) -> bytes:
    """The 32 secret bytes in ``path``. LedgerError as for :meth:`SigningKey.read`."""
    return _read_key(path)


def _read_key(path: Path) -> bytes:
    if not path.exists():
        raise LedgerError(f"{path} is missing: put the key back from a safe copy")
    check_private(path)
    with disk_errors(path):
        content = path.read_bytes()
    if len(content) != _KEY_BYTES:
        raise LedgerError(f"{path} is damaged: a key has {_KEY_BYTES} bytes")
    return content
