"""Texts of people and files, made fit for formats that lines and marks can break."""

from __future__ import annotations

import unicodedata
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from typing import Literal

#: Categories of characters that a reader cannot see and a program may act on: controls, marks of
#: writing direction, lone surrogates, private and unassigned ones.
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn"}
#: They join or part letters in several scripts, and do nothing else.
_JOINERS = "\u200c\u200d"

_ROUNDING = {"up": ROUND_CEILING, "down": ROUND_FLOOR, "nearest": ROUND_HALF_EVEN}


def one_line(text: str) -> str:
    """The text on one line, without characters that cannot be seen."""
    seen = "".join(
        letter
        for letter in text
        if letter.isspace() or letter in _JOINERS or unicodedata.category(letter) not in _UNSEEN
    )
    return " ".join(seen.split())


def short(
    value: float, digits: int = 3, rounding: Literal["up", "down", "nearest"] = "nearest"
) -> str:
    """A number with so many significant digits; ``inf`` is ``unlimited``.

    Args:
        value: not NaN.
        digits: significant ones.
        rounding: ``up`` for upper bounds, ``down`` for lower ones, so that a bound stays true.
    """
    exact = Decimal(repr(float(value)))
    if exact.is_infinite():
        return "unlimited"
    if not exact:
        return "0"
    step = Decimal(1).scaleb(exact.adjusted() - digits + 1)
    return f"{float(exact.quantize(step, rounding=_ROUNDING[rounding])):.{digits}g}"
