"""Tables for people to judge and to sign: risks, clauses, signatures."""

from __future__ import annotations

from collections.abc import Sequence

from privfin.reporting.blocks_people import Clause, Risk, Signature
from privfin.reporting.page.tables import Blank, Links, Table


def risks(rows: Sequence[Risk]) -> list[Table]:
    """Feared events, a table each; what a person has to decide is blank."""
    return [
        Table(
            f"{one.event} ({one.risk_id})",
            ("what", "answer"),
            (
                ("criterion", one.criterion),
                ("evidence", one.evidence),
                ("where", Links(one.fields)),
                ("measure", one.measure),
                ("what stays", one.residual),
                ("severity", one.severity or Blank("open")),
                ("likelihood", one.likelihood or Blank("open")),
                ("decision", one.decision or Blank("open")),
            ),
        )
        for one in rows
    ]


def clauses(rows: Sequence[Clause]) -> list[Table]:
    """Clauses of each law or standard; numbers that were not checked are marked."""
    names = dict.fromkeys((row.framework, row.edition) for row in rows)
    return [
        Table(
            f"{framework} ({edition})",
            ("clause", "what it asks for", "evidence", "where", "what remains for a person"),
            tuple(
                (row.clause if row.is_verified else f"{row.clause} (number not verified)",
                 row.subject, row.evidence, Links(row.fields), row.remains)
                for row in rows
                if (row.framework, row.edition) == (framework, edition)
            ),
        )
        for framework, edition in names
    ]  # fmt: skip


def signatures(rows: Sequence[Signature]) -> Table:
    """Lines to sign by hand."""
    return Table(
        "Sign here after reading",
        ("role", "name", "decision", "comment", "date", "signature"),
        tuple(
            (one.role, one.name or Blank("open"), one.decision or Blank("open"),
             one.comment or Blank(""), one.date or Blank("open"), Blank("by hand"))
            for one in rows
        ),
    )  # fmt: skip
