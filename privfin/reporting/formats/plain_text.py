"""Texts of people and files, made fit for formats that lines and marks can break."""

from __future__ import annotations

import unicodedata

#: Categories of characters that a reader cannot see and a program may act on: controls, marks of
#: writing direction, lone surrogates, private and unassigned ones.
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn"}
#: They join or part letters in several scripts, and do nothing else.
_JOINERS = "\u200c\u200d"


def one_line(text: str) -> str:
    """The text on one line, without characters that cannot be seen."""
    seen = "".join(
        letter
        for letter in text
        if letter.isspace() or letter in _JOINERS or unicodedata.category(letter) not in _UNSEEN
    )
    return " ".join(seen.split())
