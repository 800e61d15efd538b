"""An answer of page one, before it is bound to its question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from privfin.reporting.facts import Fact

Tone = Literal["plain", "good", "open", "bad"]


class Answer(NamedTuple):
    """One to three sentences.

    Attributes:
        text: the sentences.
        tone: as of :class:`privfin.reporting.blocks_people.Sentence`.
        fields: JSON pointers to what they rest on.
    """

    text: str
    tone: Tone
    fields: tuple[str, ...]


def answer(
    tone: Tone, *sentences: str, fields: tuple[str, ...], needs: Sequence[Fact[Any]] = ()
) -> Answer:
    """An answer of these sentences; empty ones are left out.

    Args:
        tone: of the answer; ``plain`` becomes ``open`` if one of ``needs`` was not assessed.
        sentences: in order.
        fields: JSON pointers.
        needs: facts without which the answer is not whole.
    """
    if tone == "plain" and any(one.status == "not_assessed" for one in needs):
        tone = "open"
    return Answer(" ".join(one for one in sentences if one), tone, fields)


def gap(fact: Fact[Any]) -> str:
    """Why nothing is known, for the end of a clause."""
    return f"{fact.status.replace('_', ' ')}: {fact.note.rstrip('.')}"
