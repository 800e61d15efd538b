"""Tables of a report: rows of any kind, a column for each of their fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from privfin.reporting.facts import Strict
from privfin.reporting.page.labels import COLUMNS
from privfin.reporting.page.wording import (
    plain,
)


@dataclass(frozen=True)
class Links:
    """A cell that points into the report."""

    pointers: tuple[str, ...]


@dataclass(frozen=True)
class Blank:
    """A cell that a person fills in, by hand on paper."""

    open_words: str


Cell = str | Links | Blank | tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table: its caption, names of columns and rows; ``numbers`` are columns of numbers."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numbers: frozenset[int] = frozenset()


def rows_table(caption: str, rows: Sequence[Strict]) -> Table:
    """Rows of one kind, a column for each of their fields."""
    kind = type(rows[0])
    fields = list(kind.model_fields)
    numbers = {
        at
        for at, name in enumerate(fields)
        if all(_is_number(getattr(row, name)) for row in rows) and at > 0
    }
    return Table(
        caption=caption,
        head=tuple(
            COLUMNS.get(f"{kind.__name__}.{name}", name.replace("_", " ")) for name in fields
        ),
        rows=tuple(tuple(plain(name, getattr(row, name)) for name in fields) for row in rows),
        numbers=frozenset(numbers),
    )


def one_row(caption: str, row: Strict) -> Table:
    """A single row, a line for each of its fields."""
    whole = rows_table(caption, [row])
    cells_ = zip(whole.head, whole.rows[0], strict=True)
    return Table(caption, ("field", "value"), tuple(cells_))


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
