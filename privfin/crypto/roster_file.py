"""The signed roster of a federation: who is in it, under which keys, and the key they share.

A TOML file that people can read and the keeper signs, the site that founded the federation. Every
change is a new version, which names the digests of all versions before it: a site that accepted
one of them sees that the new one grew out of it, even if it missed some in between.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from privfin.crypto.encoding import canonical_json, digest
from privfin.crypto.keys import Roster, SiteIdentity, SitePublic
from privfin.crypto.pack import Packing
from privfin.crypto.site_entry import SiteEntry, check_word, exact_fields, from_hex, read_toml
from privfin.errors import PrivfinError, ProtocolError

FORMAT = 1
_DOMAIN = b"privfin/roster/v1\x00"
_HEX = re.compile(r"[0-9a-f]{64}")
MAX_SITES = 1024
MAX_VERSION = 4096


@dataclass(frozen=True)
class SignedRoster:
    """One version of a federation's roster. Make one with :meth:`found` or :meth:`next`.

    Args:
        federation: its name.
        keeper: the site that signs; the same in all versions.
        key_id: id of the federation key of this version (see :attr:`BfvPublic.key_id`).
        layout: packing that the federation key was made for.
        sites: sorted by name, each in its own words.
        history: digests of all versions before, the first one first.
        signature: 64 bytes by the keeper over the rest.
    """

    federation: str
    keeper: str
    key_id: str
    layout: str
    sites: tuple[SiteEntry, ...]
    history: tuple[str, ...]
    signature: bytes

    @property
    def version(self) -> int:
        """From 1, one more with every change."""
        return len(self.history) + 1

    @property
    def digest(self) -> str:
        """SHA-256 over everything but the signature, 64 hexadecimal digits."""
        return digest("privfin/roster-digest/v1", canonical_json(self._content()))

    def roster(self) -> Roster:
        """The pinned keys, for envelopes and masks; its digest binds the version."""
        return Roster((entry.public for entry in self.sites), version=self.version)

    def names(self) -> tuple[str, ...]:
        """The sites' names, sorted."""
        return tuple(entry.public.name for entry in self.sites)

    def entry(self, name: str) -> SiteEntry | None:
        """The entry of a site, or None if it is not listed."""
        return next((entry for entry in self.sites if entry.public.name == name), None)

    def keeper_public(self) -> SitePublic:
        """The public keys of the keeper."""
        found = self.entry(self.keeper)
        if found is None:
            raise ProtocolError(f"roster: its keeper {self.keeper!r} is not a site of it")
        return found.public

    @classmethod
    def found(
        cls, identity: SiteIdentity, federation: str, own: SiteEntry, key_id: str, layout: str
    ) -> SignedRoster:
        """Version 1: the keeper alone."""
        return cls(federation, identity.name, key_id, layout, (own,), (), b"")._sign(identity)

    def next(
        self,
        identity: SiteIdentity,
        *,
        sites: tuple[SiteEntry, ...],
        key_id: str,
        layout: str,
    ) -> SignedRoster:
        """The version after this one, signed by the keeper ``identity``.

        Raises:
            ProtocolError: it is not one that sites would accept (see :func:`check_successor`).
        """
        new = replace(
            self,
            key_id=key_id,
            layout=layout,
            sites=tuple(sorted(sites, key=lambda entry: entry.public.name)),
            history=(*self.history, self.digest),
        )._sign(identity)
        check_successor(self, new)
        return new

    def to_bytes(self) -> bytes:
        """The file's text, the same for the same content."""
        lines = [
            f'# The roster of the privfin federation "{self.federation}". Nothing in here is',
            "# secret. The keeper's privfin writes and signs it; a change by hand is refused.",
            f"format = {FORMAT}",
            f'federation = "{self.federation}"',
            f"version = {self.version}",
            f'keeper = "{self.keeper}"',
            "",
            "[key]",
            f'id = "{self.key_id}"',
            f'layout = "{self.layout}"',
        ]
        for entry in self.sites:
            lines += ["", "[[site]]", *entry.to_toml()]
        lines += [
            "",
            "[history]",
            "# Digests of all versions before, the first one first.",
            "digests = [",
        ]
        lines += [f'  "{one}",' for one in self.history]
        lines += ["]", "", "[signature]", f'ed25519 = "{self.signature.hex()}"']
        return ("\n".join(lines) + "\n").encode()

    def _content(self) -> dict[str, object]:
        return {
            "format": FORMAT,
            "federation": self.federation,
            "version": self.version,
            "keeper": self.keeper,
            "key_id": self.key_id,
            "layout": self.layout,
            "sites": [entry.to_table() for entry in self.sites],
            "history": list(self.history),
        }

    def _signed_bytes(self) -> bytes:
        return _DOMAIN + canonical_json(self._content())

    def _sign(self, identity: SiteIdentity) -> SignedRoster:
        if identity.public() != self.keeper_public():
            raise ProtocolError(f"roster: only its keeper {self.keeper} can sign it")
        return replace(self, signature=identity.sign(self._signed_bytes()))


def read_roster(data: bytes) -> SignedRoster:
    """Read and verify a file of :meth:`SignedRoster.to_bytes`.

    What it says of its keeper is only the file's own word: compare it with an accepted roster
    (:func:`check_successor`) or with a fingerprint that was read out.

    Raises:
        ProtocolError: a changed file, an unknown field, a wrong signature, a key twice; the
            message names it.
    """
    content = read_toml(data, "roster")
    exact_fields(
        content,
        "roster",
        format=int,
        federation=str,
        version=int,
        keeper=str,
        key=dict,
        site=list,
        history=dict,
        signature=dict,
    )
    if content["format"] != FORMAT:
        raise ProtocolError(f"roster: format {content['format']} is not one that is known here")
    key, history, signature = (_table(content[name]) for name in ("key", "history", "signature"))
    exact_fields(key, "roster: key", id=str, layout=str)
    exact_fields(history, "roster: history", digests=list)
    exact_fields(signature, "roster: signature", ed25519=str)
    federation, listed, earlier = str(content["federation"]), content["site"], history["digests"]
    assert isinstance(listed, list)  # noqa: S101  # exact_fields has seen to it
    assert isinstance(earlier, list)  # noqa: S101
    if not 1 <= len(listed) <= MAX_SITES or len(earlier) >= MAX_VERSION:
        raise ProtocolError("roster: too many sites or versions, or none")
    for one in (key["id"], *earlier):
        if type(one) is not str or not _HEX.fullmatch(one):
            raise ProtocolError("roster: a digest is not 64 small hexadecimal digits")
    try:
        check_word(federation, "federation")
        Packing.named(str(key["layout"]))
        roster = SignedRoster(
            federation=federation,
            keeper=check_word(str(content["keeper"]), "site"),
            key_id=str(key["id"]),
            layout=str(key["layout"]),
            sites=tuple(SiteEntry.from_table(_table(s), federation, "roster") for s in listed),
            history=tuple(earlier),
            signature=from_hex(signature["ed25519"], 64, "roster: signature"),
        )
        roster.roster()  # refuses a name or a key that is there twice
    except ProtocolError:
        raise
    except PrivfinError as error:
        raise ProtocolError(f"roster: {error}") from error
    if content["version"] != roster.version:
        raise ProtocolError(f"roster: version {content['version']} does not fit its history")
    if not roster.keeper_public().verify(roster.signature, roster._signed_bytes()):
        raise ProtocolError(
            f"roster: the signature of its keeper {roster.keeper} does not hold; it was changed or "
            "signed by somebody else"
        )
    if roster.to_bytes() != data:
        raise ProtocolError("roster: its text was changed by hand")
    return roster


def check_successor(accepted: SignedRoster, new: SignedRoster) -> None:
    """Refuse a roster that did not grow out of the one that was accepted last.

    Raises:
        ProtocolError: another federation or keeper, an older version (rollback), another history
            (fork), a site with other keys than before, or a site that left while the federation
            key stayed.
    """
    if new.federation != accepted.federation:
        raise ProtocolError(
            f"roster: it is of the federation {new.federation!r}, not {accepted.federation!r}"
        )
    if new.keeper_public() != accepted.keeper_public():
        raise ProtocolError(
            f"roster: its keeper is not {accepted.keeper} with the keys accepted before"
        )
    if new.version <= accepted.version:
        raise ProtocolError(
            f"roster: version {new.version} is not newer than version {accepted.version}, which "
            "was accepted here"
        )
    if new.history[accepted.version - 1] != accepted.digest:
        raise ProtocolError(
            f"roster: version {new.version} did not grow out of version {accepted.version} that "
            "was accepted here; the keeper showed different rosters to different sites"
        )
    for entry in accepted.sites:
        name = entry.public.name
        found = new.entry(name)
        if found is None and new.key_id == accepted.key_id:
            raise ProtocolError(f"roster: site {name} left, but the federation key is the old one")
        if found is not None and found.public != entry.public:
            raise ProtocolError(f"roster: site {name} has other keys than before")


def _table(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ProtocolError("roster: a site is not a table")
    return value
