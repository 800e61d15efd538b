"""Who is who: each site's signing and agreement keys, the pinned roster, and sealed boxes.

Ed25519 signs (RFC 8032), X25519 agrees (RFC 7748), HKDF-SHA256 derives (RFC 5869) and
ChaCha20-Poly1305 seals (RFC 8439), all from ``cryptography``. A box follows the authenticated
mode of HPKE (RFC 9180) in outline: its key mixes an ephemeral and the two static agreements.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from privfin.crypto.encoding import (
    HoldsSecret,
    canonical_json,
    digest,
    frame,
    read_canonical_json,
)
from privfin.errors import ProtocolError, UserInputError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_IDENTITY_MAGIC = b"PFID\x01"
_BOX_MAGIC = b"PFBX\x01"
_TAG_BYTES = 16


def check_name(name: str) -> str:
    """Return ``name`` if it can name a site (1 to 64 of A-Z a-z 0-9 . _ -), else raise."""
    if not _NAME.fullmatch(name):
        raise UserInputError(
            f"{name!r} cannot name a site: use 1 to 64 letters, digits, '.', '_' or '-', "
            "starting with a letter or digit"
        )
    return name


@dataclass(frozen=True)
class SitePublic:
    """The public half of a site's identity.

    Args:
        name: the site's name in the federation.
        ed25519: 32 bytes that verify its signatures.
        x25519: 32 bytes for key agreement.

    Raises:
        UserInputError: a name or a key that cannot be one.
    """

    name: str
    ed25519: bytes
    x25519: bytes

    def __post_init__(self) -> None:
        check_name(self.name)
        if len(self.ed25519) != 32 or len(self.x25519) != 32:
            raise UserInputError(f"site {self.name}: a public key must have 32 bytes")

    @property
    def fingerprint(self) -> str:
        """SHA-256 over name and keys, 64 hexadecimal digits: for people to compare by phone."""
        return digest("privfin/site/v1", self.name, self.ed25519, self.x25519)

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Whether ``signature`` (64 bytes) over ``message`` is this site's."""
        try:
            Ed25519PublicKey.from_public_bytes(self.ed25519).verify(signature, message)
        except InvalidSignature:
            return False
        return True


class SiteIdentity(HoldsSecret):
    """A site's private keys. Make one with :meth:`generate` or :meth:`from_secret_bytes`."""

    def __init__(self, name: str, signing: Ed25519PrivateKey, agreement: X25519PrivateKey) -> None:
        self.name = check_name(name)
        self._signing = signing
        self._agreement = agreement

    def __repr__(self) -> str:
        return f"SiteIdentity({self.name!r})"

    @classmethod
    def generate(cls, name: str) -> SiteIdentity:
        """Fresh keys from the operating system for the site called ``name``."""
        return cls(name, Ed25519PrivateKey.generate(), X25519PrivateKey.generate())

    @classmethod
    def from_secret_bytes(cls, name: str, data: bytes) -> SiteIdentity:
        """Rebuild an identity from :meth:`secret_bytes`; UserInputError if it is not one."""
        start = len(_IDENTITY_MAGIC)
        if len(data) != start + 64 or data[:start] != _IDENTITY_MAGIC:
            raise UserInputError(f"the identity key of site {name} is not a privfin identity")
        return cls(
            name,
            Ed25519PrivateKey.from_private_bytes(data[start : start + 32]),
            X25519PrivateKey.from_private_bytes(data[start + 32 :]),
        )

    def secret_bytes(self) -> bytes:
        """Both private keys, unencrypted: for the site's own key file (mode 0600) only."""
        return (
            _IDENTITY_MAGIC
            + self._signing.private_bytes_raw()
            + self._agreement.private_bytes_raw()
        )

    def public(self) -> SitePublic:
        """The public half, for the roster."""
        return SitePublic(
            self.name,
            self._signing.public_key().public_bytes_raw(),
            self._agreement.public_key().public_bytes_raw(),
        )

    def sign(self, message: bytes) -> bytes:
        """The 64-byte Ed25519 signature of ``message``."""
        return self._signing.sign(message)

    def agree(self, peer: SitePublic) -> bytes:
        """The 32-byte secret this site shares with ``peer`` (see :func:`pair_secret`)."""
        return pair_secret(self._agreement, peer.x25519)


def pair_secret(own_private: X25519PrivateKey, peer_public: bytes) -> bytes:
    """The X25519 agreement, 32 bytes, the same at both ends; derive keys from it, never use it.

    Raises:
        ProtocolError: the peer's key is malformed or of small order.
    """
    try:
        return own_private.exchange(X25519PublicKey.from_public_bytes(peer_public))
    except ValueError as error:
        raise ProtocolError("a peer's agreement key is not a valid X25519 key") from error


class Roster(Mapping[str, SitePublic]):
    """The sites of a federation and their pinned public keys; unchangeable.

    Args:
        sites: in any order.
        version: of the signed roster file that they come from, from 1; 0 if from none. The digest
            binds it, so messages of an older roster are refused even if the sites are the same.

    Raises:
        UserInputError: no sites, two with the same name or the same key, or a negative version.
    """

    def __init__(self, sites: Iterable[SitePublic], version: int = 0) -> None:
        listed = sorted(sites, key=lambda site: site.name)
        self._sites = {site.name: site for site in listed}
        if not listed:
            raise UserInputError("a roster needs at least one site")
        keys = {key for site in listed for key in (site.ed25519, site.x25519)}
        if len(self._sites) != len(listed) or len(keys) != 2 * len(listed):
            raise UserInputError("two sites of a roster share a name or a key")
        if version < 0:
            raise UserInputError(f"a roster's version cannot be {version}")
        self.version = version
        self._digest = hashlib.sha256(self.to_bytes()).hexdigest()

    def __getitem__(self, name: str) -> SitePublic:
        return self._sites[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sites)

    def __len__(self) -> int:
        return len(self._sites)

    def __repr__(self) -> str:
        return f"Roster({', '.join(self._sites)}; {self._digest[:16]})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Roster) and self._digest == other._digest

    def __hash__(self) -> int:
        return hash(self._digest)

    @property
    def digest(self) -> str:
        """SHA-256 of :meth:`to_bytes`, 64 hexadecimal digits."""
        return self._digest

    def to_bytes(self) -> bytes:
        """Canonical JSON: ``{"sites": {name: {"ed25519": hex, "x25519": hex}}, "version": n}``."""
        sites = {
            name: {"ed25519": site.ed25519.hex(), "x25519": site.x25519.hex()}
            for name, site in self._sites.items()
        }
        return canonical_json({"sites": sites, "version": self.version})

    @classmethod
    def from_bytes(cls, data: bytes) -> Roster:
        """Read :meth:`to_bytes`; ProtocolError or UserInputError for anything else."""
        content = read_canonical_json(data, "roster")
        listed, version = content.get("sites"), content.get("version")
        if len(content) != 2 or not isinstance(listed, dict) or type(version) is not int:
            raise ProtocolError("roster: it does not have exactly sites and a version")
        sites = []
        for name, keys in listed.items():
            if not isinstance(keys, dict) or set(keys) != {"ed25519", "x25519"}:
                raise ProtocolError(f"roster: site {name!r} does not have exactly two public keys")
            try:
                pair = [bytes.fromhex(keys["ed25519"]), bytes.fromhex(keys["x25519"])]
            except (TypeError, ValueError) as error:
                raise ProtocolError(f"roster: a key of site {name!r} is not hexadecimal") from error
            sites.append(SitePublic(name, *pair))
        roster = cls(sites, version)
        if roster.to_bytes() != data:
            raise ProtocolError("roster: not in canonical form")
        return roster


def _box_key(
    secrets: tuple[bytes, bytes],
    ephemeral: bytes,
    sender: SitePublic,
    recipient: SitePublic,
    context: bytes,
) -> tuple[bytes, bytes]:
    """The 32-byte key of a box and the associated data that it is sealed with."""
    bound = frame("privfin/box/v1", ephemeral, sender.fingerprint, recipient.fingerprint, context)
    key = HKDF(SHA256(), 32, salt=None, info=bound).derive(frame(*secrets))
    return key, bound


def seal(recipient: SitePublic, sender: SiteIdentity, plaintext: bytes, context: bytes) -> bytes:
    """Encrypt ``plaintext`` so that only ``recipient`` reads it, and only in this ``context``.

    Args:
        recipient: who may open it.
        sender: who seals it; the box opens only under this sender's pinned key.
        plaintext: any bytes.
        context: what the box is for (run id, roster digest, key id, ...), bound to it, not sent.
            Build it with :func:`privfin.crypto.encoding.frame`.

    Returns:
        ``len(plaintext) + 53`` bytes.
    """
    once = X25519PrivateKey.generate()
    ephemeral = once.public_key().public_bytes_raw()
    secrets = (pair_secret(once, recipient.x25519), sender.agree(recipient))
    key, bound = _box_key(secrets, ephemeral, sender.public(), recipient, context)
    # The key serves one message, since it comes from a fresh ephemeral key: a zero nonce is safe.
    return _BOX_MAGIC + ephemeral + ChaCha20Poly1305(key).encrypt(bytes(12), plaintext, bound)


def unseal(identity: SiteIdentity, sender: SitePublic, box: bytes, context: bytes) -> bytes:
    """Open a box of :func:`seal` sent to ``identity`` by ``sender`` in this ``context``.

    Raises:
        ProtocolError: another recipient, sender or context, or a damaged box.
    """
    start = len(_BOX_MAGIC)
    if len(box) < start + 32 + _TAG_BYTES or box[:start] != _BOX_MAGIC:
        raise ProtocolError(f"the sealed box from {sender.name} is not a privfin box")
    ephemeral = box[start : start + 32]
    secrets = (pair_secret(identity._agreement, ephemeral), identity.agree(sender))
    key, bound = _box_key(secrets, ephemeral, sender, identity.public(), context)
    try:
        return ChaCha20Poly1305(key).decrypt(bytes(12), box[start + 32 :], bound)
    except InvalidTag as error:
        raise ProtocolError(
            f"the sealed box from {sender.name} does not open: it is damaged or was made for "
            "another recipient, run or key"
        ) from error
