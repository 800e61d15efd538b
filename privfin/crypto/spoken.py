"""Digests as digits that two people can read to each other by phone."""

from __future__ import annotations

from privfin.crypto.encoding import digest
from privfin.errors import UserInputError

_GROUPS = 8
_DIGITS = 5


def spoken(hexadecimal: str) -> str:
    """Eight groups of five digits for a digest: 132 bits of SHA-256 over it.

    To make other keys with the same digits takes about 2^132 tries.
    """
    count = _GROUPS * _DIGITS
    number = int(digest("privfin/spoken/v1", hexadecimal), 16) % 10**count
    text = f"{number:0{count}d}"
    return " ".join(text[start : start + _DIGITS] for start in range(0, count, _DIGITS))


def same_spoken(given: str, expected: str) -> bool:
    """Whether digits that a person typed are ``expected``, however they are grouped.

    Raises:
        UserInputError: they are not forty digits.
    """
    digits = "".join(given.replace("-", " ").split())
    if len(digits) != _GROUPS * _DIGITS or not (digits.isascii() and digits.isdigit()):
        raise UserInputError(
            f"a fingerprint is {_GROUPS} groups of {_DIGITS} digits, as federation show prints it"
        )
    return digits == expected.replace(" ", "")
