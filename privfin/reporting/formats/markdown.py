"""Markdown from texts that nobody can trust: no text breaks a table, a heading or the page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from privfin.reporting.facts import Fact
from privfin.reporting.formats.plain_text import one_line

#: Marks that Markdown, its dialects, HTML or TeX act on. An underscore inside a word is none.
_MARKS = re.compile(r"[&<>|`*\[\]\\~$^#]|(?<![^\W_])_|_(?![^\W_])")
#: What starts a list, underlines a heading, or opens a block at the start of a line.
_START = re.compile(r"^(?:[=:]|[-+](?=[-+\s]|$)|\d+(?=[.)](?:\s|$)))")

STATUS_WORDS = {"not_assessed": "not assessed", "not_applicable": "not applicable"}


def inline(text: str) -> str:
    """The text as plain words on one line: every mark becomes a character reference.

    Character references are used, not backslashes: they work in every dialect of Markdown, inside
    tables as well, and in HTML.
    """
    plain = _MARKS.sub(lambda found: f"&#{ord(found[0])};", one_line(text))
    return _START.sub(
        lambda found: "".join(f"&#{ord(letter)};" for letter in found[0]), plain, count=1
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells are plain text."""
    lines = [head, ["---"] * len(head)]
    return "\n".join(
        "| " + " | ".join(line if index == 1 else map(inline, line)) + " |"
        for index, line in enumerate([*lines, *rows])
    )


def items(texts: Iterable[str]) -> str:
    """A list of plain texts."""
    return "\n".join(f"- {inline(text)}" for text in texts)


def lines_of_code(lines: Iterable[str]) -> str:
    """Lines as they are typed, indented: no text in them can end the block."""
    return "\n".join(f"    {one_line(line)}" for line in lines)


def gap(fact: Fact[Any]) -> str:
    """A gap in words: its status and why."""
    return f"{STATUS_WORDS[fact.status]}: {one_line(fact.note)}"


def words(fact: Fact[Any]) -> str:
    """A fact's value with how it is known, or its gap."""
    if not fact.is_known:
        return gap(fact)
    return f"{one_line(str(fact.get()))} ({fact.status})"
