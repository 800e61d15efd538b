"""The key ceremony's messages: the keeper hands a roster and the federation key to one site.

A message is one file, for one site and one version of the roster. Layout, integers big-endian::

    5  magic "PFCM" and version 1
    4 + n  header, canonical JSON      4 + n  roster, TOML      4 + n  sealed federation key
    64  Ed25519 signature of the keeper over everything before

The box is sealed with :func:`privfin.crypto.keys.seal`, so only the recipient opens it, and its
context is the header. So the key belongs to one federation, roster version, recipient and number.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from privfin.crypto.bfv import BfvKey
from privfin.crypto.encoding import HoldsSecret, canonical_json, frame, read_canonical_json
from privfin.crypto.keys import SiteIdentity, seal, unseal
from privfin.crypto.pack import Packing
from privfin.crypto.roster_file import SignedRoster, check_successor, read_roster
from privfin.crypto.site_entry import MAX_TEXT
from privfin.errors import PrivfinError, ProtocolError

_MAGIC = b"PFCM\x01"
_DOMAIN = b"privfin/ceremony/v1\x00"
_SIGNATURE = 64
_MAX_HEADER = 2048
_MAX_BOX = 2**24
_MAX_NUMBER = 2**53
MAX_BYTES = len(_MAGIC) + 12 + _MAX_HEADER + MAX_TEXT + _MAX_BOX + _SIGNATURE
"""Largest message, about 17 MiB; one with a key of today has about 400 kB."""


@dataclass(frozen=True)
class CeremonyHeader:
    """What a message is bound to.

    Args:
        federation: its name.
        version: of the roster, from 1.
        roster_digest: :attr:`SignedRoster.digest`.
        key_id: of the federation key inside.
        keeper: who sent it.
        recipient: the site it is for.
        number: rises with every message of the keeper, from 1.
    """

    federation: str
    version: int
    roster_digest: str
    key_id: str
    keeper: str
    recipient: str
    number: int

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "int":
                good = type(value) is int and 1 <= value < _MAX_NUMBER
            else:
                good = type(value) is str and 1 <= len(value) <= 64 and value.isprintable()
            if not good:
                raise ProtocolError(f"ceremony message: {field.name} is not valid")

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical_json(asdict(self))


class OpenedMessage(HoldsSecret):
    """What a site took from a message: the roster, the federation key and the number."""

    def __init__(self, roster: SignedRoster, key: BfvKey, number: int) -> None:
        self.roster = roster
        self.key = key
        self.number = number


class CeremonyMessage:
    """A message whose signature and roster hold by themselves; nothing is decrypted yet.

    Its keeper is whoever the roster inside names. That it is the right one is checked by
    :meth:`open` against the roster accepted before; a site that has none compares
    ``message.roster.keeper_public()`` with a fingerprint that was read out.
    """

    def __init__(self, header: CeremonyHeader, roster: SignedRoster, box: bytes) -> None:
        self.header = header
        self.roster = roster
        self._box = box

    @classmethod
    def read(cls, data: bytes) -> CeremonyMessage:
        """Read a file of :func:`seal_message`.

        Raises:
            ProtocolError: too short or long, malformed, changed, or bound to another roster or key
                than the one inside.
        """
        least = len(_MAGIC) + 12 + _SIGNATURE
        if not least <= len(data) <= MAX_BYTES or data[: len(_MAGIC)] != _MAGIC:
            raise ProtocolError("ceremony message: not a privfin ceremony file of this version")
        at, parts = len(_MAGIC), []
        for limit in (_MAX_HEADER, MAX_TEXT, _MAX_BOX):
            size = int.from_bytes(data[at : at + 4], "big")
            at += 4
            if size > limit or at + size > len(data) - _SIGNATURE:
                raise ProtocolError("ceremony message: a part of it is cut off or too long")
            parts.append(data[at : at + size])
            at += size
        if at != len(data) - _SIGNATURE:
            raise ProtocolError("ceremony message: bytes are left over")
        text, toml, box = parts
        values = read_canonical_json(text, "ceremony message")
        if set(values) != {field.name for field in fields(CeremonyHeader)}:
            raise ProtocolError("ceremony message: its header does not have the expected fields")
        header = CeremonyHeader(**values)  # type: ignore[arg-type]  # it checks every type itself
        roster = read_roster(toml)
        _compare(header, roster)
        if not roster.keeper_public().verify(data[at:], _DOMAIN + data[:at]):
            raise ProtocolError(f"{_from(header)}: the signature is not valid")
        return cls(header, roster, box)

    def open(
        self, identity: SiteIdentity, accepted: SignedRoster | None, number: int
    ) -> OpenedMessage:
        """Check the message against what this site knows, and open the key.

        Args:
            identity: this site.
            accepted: the roster that it accepted last; None before the first one, and then the
                keeper's fingerprint must have been compared.
            number: of the message that it accepted last, 0 before the first one.

        Raises:
            ProtocolError: for another site, replayed, a roster that did not grow out of the
                accepted one, other keys of this site than its own, or a swapped federation key.
        """
        who, header = _from(self.header), self.header
        if header.recipient != identity.name:
            raise ProtocolError(f"{who}: it is for site {header.recipient}, not {identity.name}")
        if accepted is not None and (header.federation, header.keeper) != (
            accepted.federation,
            accepted.keeper,
        ):
            raise ProtocolError(
                f"{who}: it is of {header.federation!r} and its keeper, not of "
                f"{accepted.federation!r} and its keeper {accepted.keeper}"
            )
        if header.number <= number:
            raise ProtocolError(
                f"{who}: message {header.number} is replayed, number {number} was accepted already"
            )
        if accepted is not None:
            check_successor(accepted, self.roster)
        own = self.roster.entry(identity.name)
        if own is None or own.public != identity.public():
            raise ProtocolError(f"{who}: the roster lists other keys for site {identity.name}")
        context = _box_context(header)
        try:
            secret = unseal(identity, self.roster.keeper_public(), self._box, context)
            key = BfvKey.from_secret_bytes(secret, Packing.named(self.roster.layout))
        except PrivfinError as error:
            raise ProtocolError(f"{who}: {error}") from error
        if key.public().key_id != self.roster.key_id:
            raise ProtocolError(f"{who}: the key inside is not the one that the roster names")
        return OpenedMessage(self.roster, key, header.number)


def seal_message(
    keeper: SiteIdentity, roster: SignedRoster, key: BfvKey, recipient: str, number: int
) -> bytes:
    """The message that hands ``roster`` and ``key`` to the site ``recipient``.

    Args:
        keeper: the keeper of ``roster``.
        roster: the version to hand over.
        key: the federation key that it names.
        recipient: a site of it.
        number: higher than in every message before.

    Raises:
        ProtocolError: ``recipient`` is not listed, or ``key`` is not the key of this roster.
    """
    entry = roster.entry(recipient)
    if entry is None:
        raise ProtocolError(f"site {recipient} is not in version {roster.version} of the roster")
    header = CeremonyHeader(
        federation=roster.federation,
        version=roster.version,
        roster_digest=roster.digest,
        key_id=key.public().key_id,
        keeper=keeper.name,
        recipient=recipient,
        number=number,
    )
    _compare(header, roster)
    box = seal(entry.public, keeper, key.secret_bytes(), _box_context(header))
    parts = (header.to_bytes(), roster.to_bytes(), box)
    whole = _MAGIC + b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return whole + keeper.sign(_DOMAIN + whole)


def _compare(header: CeremonyHeader, roster: SignedRoster) -> None:
    """Raise ProtocolError for the first thing in ``header`` that is not as in ``roster``."""
    wanted = {
        "federation": roster.federation,
        "version": roster.version,
        "keeper": roster.keeper,
        "key_id": roster.key_id,
        "roster_digest": roster.digest,
    }
    for name, value in wanted.items():
        found = getattr(header, name)
        if found != value:
            raise ProtocolError(
                f"{_from(header)}: {name} is {found!r}, but the roster inside says {value!r}"
            )


def _box_context(header: CeremonyHeader) -> bytes:
    return frame("privfin/ceremony-key/v1", header.to_bytes())


def _from(header: CeremonyHeader) -> str:
    return f"ceremony message from {header.keeper}"
