"""Changing facts for a public copy: the value made coarser, or left out with the reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from privfin.reporting.facts import Fact, not_assessed

T = TypeVar("T")
B = TypeVar("B")

#: How the note of a fact begins that was left out of a public copy.
WITHHELD = "withheld: "


def changed(fact: Fact[T], change: Callable[[T], T]) -> Fact[T]:
    """The fact with its value changed; a gap stays as it is."""
    return fact.model_copy(update={"value": change(fact.get())}) if fact.is_known else fact


def withheld(fact: Fact[T], why: str) -> Fact[T]:
    """A gap with the reason in place of a known value; a gap stays as it is."""
    return not_assessed(f"{WITHHELD}{why}", fact.source) if fact.is_known else fact


class Withheld:
    """Keeps the lines that say what was done to a report, each once and in order.

    Args:
        lines: of an earlier release of the same report.
    """

    def __init__(self, lines: tuple[str, ...] = ()) -> None:
        self._lines = list(lines)

    @property
    def lines(self) -> tuple[str, ...]:
        """All lines."""
        return tuple(self._lines)

    def add(self, line: str) -> None:
        """Keep a line."""
        if line not in self._lines:
            self._lines.append(line)

    def note(self, before: B, after: B, line: str) -> B:
        """``after``; the line is kept if it differs from ``before``."""
        if after != before:
            self.add(line)
        return after
