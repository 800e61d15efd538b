"""How a site describes itself to a federation: its keys and modalities, under its own signature.

The request file carries such an entry to the keeper, and the roster carries it to all sites. The
signature shows that whoever made the entry has the signing key and means this federation, so a
keeper cannot give a site another agreement key or other modalities.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass

from privfin.crypto.encoding import frame
from privfin.crypto.keys import SiteIdentity, SitePublic
from privfin.errors import ProtocolError, UserInputError

_WORD = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_MODALITY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_MAX_MODALITIES = 16
# The lines that privfin writes. A TOML parser takes minutes for a key of many dots, so such files
# must not reach it.
_LINE = re.compile(
    r"|#[^\x00-\x1f\x7f]{0,200}|\[{1,2}[a-z]{1,32}\]{1,2}"
    r"|[a-z0-9]{1,32} = [^\x00-\x1f\x7f{}=#'\\]{1,700}"
    r'|  "[0-9a-f]{64}",|\]'
)
MAX_TEXT = 2**20
"""Largest file of text that is read, 1 MiB."""


def check_word(text: str, what: str) -> str:
    """Return ``text`` if it can name a site or federation: 1 to 32 of a-z 0-9 -, else raise."""
    if not _WORD.fullmatch(text):
        raise UserInputError(
            f"{text!r} cannot name a {what}: use 1 to 32 small letters, digits or '-', starting "
            "with a letter or digit"
        )
    return text


@dataclass(frozen=True)
class SiteEntry:
    """A site in its own words. Make one with :meth:`sign` or :meth:`from_table`.

    Args:
        public: name and public keys.
        modalities: what it declares to hold, in its own order.
        signature: 64 bytes by ``public`` over federation, keys and modalities.
    """

    public: SitePublic
    modalities: tuple[str, ...]
    signature: bytes

    @classmethod
    def sign(
        cls, identity: SiteIdentity, federation: str, modalities: tuple[str, ...]
    ) -> SiteEntry:
        """The entry of ``identity``; UserInputError if a name or modality is not valid."""
        public = identity.public()
        check_word(federation, "federation")
        check_word(public.name, "site")
        _check_modalities(modalities)
        return cls(public, modalities, identity.sign(_signed_bytes(public, federation, modalities)))

    @classmethod
    def from_table(cls, table: Mapping[str, object], federation: str, what: str) -> SiteEntry:
        """Read and verify an entry; ProtocolError, starting with ``what``, if anything is wrong."""
        exact_fields(table, what, name=str, ed25519=str, x25519=str, modalities=list, signature=str)
        name = str(table["name"])
        listed = table["modalities"]
        modalities = tuple(listed) if isinstance(listed, list) else ()
        try:
            check_word(name, "site")
            public = SitePublic(
                name, from_hex(table["ed25519"], 32, what), from_hex(table["x25519"], 32, what)
            )
            _check_modalities(modalities)
        except UserInputError as error:
            raise ProtocolError(f"{what}: {error}") from error
        entry = cls(public, modalities, from_hex(table["signature"], 64, what))
        if not public.verify(entry.signature, _signed_bytes(public, federation, modalities)):
            raise ProtocolError(f"{what}: site {name} did not sign its keys and modalities")
        return entry

    def to_table(self) -> dict[str, object]:
        """The entry as text and lists: what a signature of the roster covers."""
        return {
            "name": self.public.name,
            "ed25519": self.public.ed25519.hex(),
            "x25519": self.public.x25519.hex(),
            "modalities": list(self.modalities),
            "signature": self.signature.hex(),
        }

    def to_toml(self) -> list[str]:
        """The entry as lines of TOML, without a heading."""
        listed = ", ".join(f'"{modality}"' for modality in self.modalities)
        return [
            f"{name} = [{listed}]" if name == "modalities" else f'{name} = "{value}"'
            for name, value in self.to_table().items()
        ]


def request_text(entry: SiteEntry, federation: str) -> bytes:
    """The file with which a site asks the keeper of ``federation`` to be listed."""
    lines = [
        f'# Site "{entry.public.name}" asks to be listed in the privfin federation "{federation}".',
        "# Nothing in here is secret. A change by hand is refused.",
        "format = 1",
        f'federation = "{federation}"',
        "",
        "[site]",
        *entry.to_toml(),
    ]
    return ("\n".join(lines) + "\n").encode()


def read_request(data: bytes) -> tuple[str, SiteEntry]:
    """The federation and the entry of a file of :func:`request_text`.

    Raises:
        ProtocolError: anything else, a changed file, or a signature that does not hold.
    """
    content = read_toml(data, "request")
    exact_fields(content, "request", format=int, federation=str, site=dict)
    federation, table = str(content["federation"]), content["site"]
    if content["format"] != 1 or not _WORD.fullmatch(federation) or not isinstance(table, dict):
        raise ProtocolError("request: not a request of this version")
    entry = SiteEntry.from_table(table, federation, "request")
    if request_text(entry, federation) != data:
        raise ProtocolError("request: its text was changed by hand")
    return federation, entry


def read_toml(data: bytes, what: str) -> dict[str, object]:
    """Parse TOML from an untrusted file; ProtocolError, starting with ``what``, if it is none."""
    if len(data) > MAX_TEXT:
        raise ProtocolError(f"{what}: larger than {MAX_TEXT} bytes")
    try:
        text = data.decode("utf-8")
        if not all(_LINE.fullmatch(line) for line in text.split("\n")):
            raise ProtocolError(f"{what}: its text was changed by hand or is not of privfin")
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"{what}: not valid TOML") from error


def exact_fields(table: Mapping[str, object], what: str, **types: type) -> None:
    """Raise ProtocolError unless ``table`` has exactly these fields with exactly these types."""
    for name in sorted(set(table) - set(types)):
        raise ProtocolError(f"{what}: unknown field {name!r}")
    for name, kind in types.items():
        if name not in table:
            raise ProtocolError(f"{what}: field {name!r} is missing")
        if type(table[name]) is not kind:
            raise ProtocolError(f"{what}: field {name!r} is not valid")


def from_hex(value: object, size: int, what: str) -> bytes:
    """``size`` bytes from their small hexadecimal digits; ProtocolError for anything else."""
    if type(value) is not str or not re.fullmatch(rf"[0-9a-f]{{{2 * size}}}", value):
        raise ProtocolError(f"{what}: expected {2 * size} small hexadecimal digits")
    return bytes.fromhex(value)


def _check_modalities(modalities: tuple[object, ...]) -> None:
    if not 1 <= len(modalities) <= _MAX_MODALITIES or len(set(map(str, modalities))) != len(
        modalities
    ):
        raise UserInputError(f"a site declares 1 to {_MAX_MODALITIES} different modalities")
    for modality in modalities:
        if type(modality) is not str or not _MODALITY.fullmatch(modality):
            raise UserInputError(
                f"{modality!r} cannot name a modality: use letters, digits, '_' or '-', as in "
                "--modalities image,text"
            )


def _signed_bytes(public: SitePublic, federation: str, modalities: tuple[str, ...]) -> bytes:
    return frame(
        "privfin/site-entry/v1",
        federation,
        public.name,
        public.ed25519,
        public.x25519,
        *modalities,
    )
