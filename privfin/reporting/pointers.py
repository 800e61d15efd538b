"""JSON pointers (RFC 6901) into a report: which facts they name."""

from __future__ import annotations

from typing import Any

from privfin.reporting.facts import Fact, Strict
from privfin.reporting.schema import Report


def facts_at(report: Report, pointer: str) -> tuple[Fact[Any], ...]:
    """The facts that a pointer names: all of a block (``/audit``), or one (``/audit/verdict``).

    Raises:
        ValueError: the pointer names neither a block nor a field of one.
    """
    start, *names = pointer.split("/")
    place: object = report
    for name in names:
        fields = type(place).model_fields if isinstance(place, Strict) else {}
        if isinstance(place, Fact) or name not in fields:
            raise ValueError(f"{pointer} names no block and no field of one")
        place = getattr(place, name)
    if start or not names:
        raise ValueError(f"{pointer!r} is no pointer to a block or field")
    if isinstance(place, Fact):
        return (place,)
    if isinstance(place, Strict):
        return tuple(getattr(place, name) for name in type(place).model_fields)
    raise ValueError(f"{pointer} names a part of the report that has no status")
