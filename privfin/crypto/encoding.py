"""Unambiguous byte encodings for hashing, key derivation and signing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from privfin.errors import ProtocolError


class HoldsSecret:
    """Base of objects that hold key material: they cannot be pickled, copied or printed."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: secret>"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError(f"{type(self).__name__} holds a key and cannot be copied or pickled")


def frame(*parts: str | int | bytes) -> bytes:
    """Join ``parts`` so that different lists never give the same bytes.

    Each part is written as one type byte, its length as 8 big-endian bytes, and its content
    (UTF-8 for text, decimal digits for integers).
    """
    out = bytearray()
    for part in parts:
        if isinstance(part, bytes):
            tag, content = b"b", part
        elif isinstance(part, str):
            tag, content = b"s", part.encode()
        else:
            tag, content = b"i", str(part).encode()
        out += tag + len(content).to_bytes(8, "big") + content
    return bytes(out)


def digest(*parts: str | int | bytes) -> str:
    """SHA-256 of :func:`frame` of ``parts``, as 64 hexadecimal digits."""
    return hashlib.sha256(frame(*parts)).hexdigest()


def canonical_json(value: Mapping[str, object]) -> bytes:
    """The one JSON text of ``value``: sorted keys, no spaces, ASCII only, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode()


def read_canonical_json(data: bytes, what: str) -> dict[str, object]:
    """Read a JSON object that is exactly its own canonical text.

    Raises ProtocolError naming ``what`` for anything else: other JSON, doubled keys, spaces.
    """
    try:
        value = json.loads(data)
        canonical = isinstance(value, dict) and canonical_json(value) == data
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"{what}: not valid JSON") from error
    if not canonical:
        raise ProtocolError(f"{what}: not a JSON object in canonical form")
    return dict(value)
