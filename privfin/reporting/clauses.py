"""Which fields of a report are evidence relevant to which clause of a law or standard.

The clauses are data (``clauses.json``) with an edition and the date of the law that they know.
They name evidence and what is left for a person; whether a clause is met is nobody's finding here.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from functools import lru_cache
from importlib import resources
from typing import Any, Literal

from pydantic import Field

from privfin.reporting.blocks_people import Clause, ClauseMap
from privfin.reporting.facts import Fact, Strict, declared, derived, measured
from privfin.reporting.pointers import facts_at
from privfin.reporting.schema import Report

_FILE = "clauses.json"
_STALE_AFTER_DAYS = 365


class ClauseEntry(Strict):
    """A clause as the package knows it.

    Attributes:
        clause: its number, as far as known.
        subject: what it asks for, in our words.
        is_verified: whether the number was checked against the original.
        fields: JSON pointers to blocks or fields of a report; none if it has nothing on this.
        remains: what is left for a person.
    """

    clause: str = Field(min_length=1)
    subject: str = Field(min_length=1)
    is_verified: bool
    fields: tuple[str, ...]
    remains: str = Field(min_length=1)


class Framework(Strict):
    """A law or standard, its edition with its date, and its clauses."""

    framework: str = Field(min_length=1)
    edition: str = Field(min_length=1)
    clauses: tuple[ClauseEntry, ...] = Field(min_length=1)


class ClauseData(Strict):
    """The content of ``clauses.json``.

    Attributes:
        edition: of these data; grows with every change.
        as_of: date of the state of law that they know.
        frameworks: laws and standards.
    """

    edition: str = Field(min_length=1)
    as_of: date
    frameworks: tuple[Framework, ...] = Field(min_length=1)


@lru_cache(maxsize=1)
def clause_data() -> ClauseData:
    """The clauses that the package knows."""
    text = (resources.files("privfin.reporting") / _FILE).read_text(encoding="utf-8")
    return ClauseData.model_validate_json(text)


def clause_map(report: Report) -> ClauseMap:
    """Every known clause with the state of its evidence in this report.

    ``evidence`` follows from the statuses of the facts that a clause points at: ``here`` if all
    are known, ``partly`` if some are, ``missing`` if none is. Facts that are not applicable do not
    count. A known fact may speak against the model as well as for it.
    """
    data = clause_data()
    rows = tuple(
        Clause(
            framework=law.framework,
            edition=law.edition,
            **entry.model_dump(),
            evidence=_evidence(fact for at in entry.fields for fact in facts_at(report, at)),
        )
        for law in data.frameworks
        for entry in law.clauses
    )
    return ClauseMap(
        edition=measured(data.edition, _FILE),
        as_of=declared(data.as_of.isoformat(), _FILE, _age(data.as_of, report)),
        clauses=derived(
            rows,
            f"{_FILE}, and the statuses of the fields that it points at",
            "evidence is here where the report's fields are known; whether the clause is met is "
            "for a person to say",
        ),
    )


def _evidence(facts: Iterable[Fact[Any]]) -> Literal["here", "partly", "missing"]:
    known = [fact.is_known for fact in facts if fact.status != "not_applicable"]
    if not any(known):
        return "missing"
    return "here" if all(known) else "partly"


def _age(as_of: date, report: Report) -> str:
    """What to say of the map's age on the day of the report; laws change."""
    made = datetime.fromisoformat(report.report.created.get()).date()
    if (made - as_of).days <= _STALE_AFTER_DAYS:
        return ""
    return (
        f"older than a year when this report was made ({made}): "
        "check whether these laws and standards have changed"
    )
