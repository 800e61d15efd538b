"""Which charts and tables stand for a fact whose value is rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from privfin.reporting.blocks_results import AttackResult, Interval
from privfin.reporting.facts import Fact, Strict
from privfin.reporting.numbers import delta_text
from privfin.reporting.page import (
    charts_budget,
    charts_intervals,
    charts_rates,
    tables_people,
    tables_privacy,
    tables_results,
)
from privfin.reporting.page.labels import FIELDS
from privfin.reporting.page.svg import Chart
from privfin.reporting.page.tables import Table, one_row, rows_table
from privfin.reporting.schema import Report

Exhibit = tuple[Chart | Table, ...]


def exhibit(report: Report, path: str, fact: Fact[Any]) -> Exhibit:
    """Charts, each before its table, of a fact; empty where words are enough.

    Args:
        report: the whole report.
        path: of the fact, ``block.field``.
        fact: its value; a gap has nothing to draw.
    """
    rows = fact.value
    if isinstance(rows, dict) and rows:
        names = tuple((str(key), str(value)) for key, value in rows.items())
        return (Table(FIELDS[path], ("of", "value"), names),)
    if isinstance(rows, Strict):
        return (one_row(FIELDS[path], rows),)
    if not isinstance(rows, tuple) or not rows or not isinstance(rows[0], Strict):
        return ()
    if path in _OWN:
        return tuple(_OWN[path](report))
    return (rows_table(_caption(report, path), rows),)


def _caption(report: Report, path: str) -> str:
    """The name of the field; with the delta where rows have epsilon and none of their own."""
    if path in ("guarantee.colluding_sites", "audit.canaries"):
        return f"{FIELDS[path]}; epsilon at delta {_delta(report)}, for one protected unit"
    if path == "ledger.budgets":
        return f"{FIELDS[path]}; epsilon at the delta of its row, for one protected unit"
    return FIELDS[path]


def _delta(report: Report) -> str:
    delta = report.guarantee.delta
    return delta_text(delta.get()) if delta.is_known else "unknown"


def _trade_off(report: Report) -> Iterator[Chart | Table]:
    guarantee = report.guarantee
    curve = guarantee.curve.get()
    if not (guarantee.epsilon.is_known and guarantee.delta.is_known):
        yield rows_table(FIELDS["guarantee.curve"], curve)
        return
    shown = _of_all_patients(report, "outsider")
    parts = (curve, guarantee.epsilon.get(), guarantee.delta.get(), shown)
    yield charts_rates.trade_off_chart(*parts)
    yield from tables_privacy.trade_off(*parts)


def _of_all_patients(report: Report, observer: str) -> list[AttackResult]:
    return [
        row
        for row in report.audit.attacks.value or ()
        if (row.observer, row.stratum) == (observer, "all")
    ]


def _attacks(report: Report) -> Iterator[Chart | Table]:
    rows = report.audit.attacks.get()
    for place, observer in enumerate(dict.fromkeys(row.observer for row in rows)):
        shown = _of_all_patients(report, observer)
        shown = [row for row in shown if row.curve]
        if shown:
            yield charts_rates.roc_chart(observer, shown, place)
        mine = [row for row in rows if row.observer == observer]
        yield from tables_privacy.attacks(observer, mine, _delta(report))


def _auroc(ident: str, which: str, rows: Sequence[tuple[str, Interval]]) -> Iterator[Chart]:
    """A chart, unless every value was withheld or is not defined."""
    if any(found.value is not None for _, found in rows):
        yield charts_intervals.auroc_chart(ident, which, rows)


def _cells(report: Report) -> Iterator[Chart | Table]:
    rows = report.utility.cells.get()
    yield from _auroc("cells", "by available modalities", [(row.cell, row.auroc) for row in rows])
    yield tables_results.cells(rows, "Results by available modalities")
    for place, row in enumerate(rows):
        if row.labels:
            of_labels = [(one.label, one.auroc) for one in row.labels]
            yield from _auroc(f"labels-{place}", f"of labels, {row.cell}", of_labels)
            yield tables_results.labels(row)


def _groups(report: Report) -> Iterator[Chart | Table]:
    rows = report.utility.groups.get()
    for place, by in enumerate(dict.fromkeys(group.by for group in rows)):
        mine = [group for group in rows if group.by == by]
        of_groups = [(f"{group.group}, {row.cell}", row.auroc) for group in mine
                     for row in group.cells]  # fmt: skip
        yield from _auroc(f"groups-{place}", f"of subgroups by {by}", of_groups)
        yield from tables_results.groups(by, mine)


def _compared(report: Report) -> Iterator[Chart | Table]:
    runs = report.comparison.runs.get()
    yield tables_results.promises(runs)
    cells = list(dict.fromkeys(cell for run in runs for cell in run.auroc))
    for place, cell in enumerate(cells):
        of_runs = [(run.name, run.auroc[cell]) for run in runs if cell in run.auroc]
        yield from _auroc(f"runs-{place}", f"of the runs, {cell}", of_runs)
    yield from tables_results.compared(runs, cells)


def _cost(report: Report) -> Iterator[Chart | Table]:
    rows = report.utility.cost_of_privacy.get()
    yield charts_intervals.cost_chart(rows)
    yield rows_table("Macro AUROC with privacy and without it", rows)


def _attributes(report: Report) -> Iterator[Chart | Table]:
    rows = report.audit.attributes.get()
    yield charts_intervals.attributes_chart(rows)
    yield rows_table(FIELDS["audit.attributes"], rows)


def _budgets(report: Report) -> Iterator[Chart | Table]:
    rows = report.ledger.budgets.get()
    for place, one in enumerate(rows):
        bar = charts_budget.budget_bar(one, f"chart-budget-{place}")
        if bar is not None:
            yield bar
    yield rows_table(_caption(report, "ledger.budgets"), rows)


#: Facts whose rows are shown in a way of their own.
_OWN: dict[str, Callable[[Report], Iterable[Chart | Table]]] = {
    "guarantee.observers": lambda report: tables_privacy.observers(
        report.guarantee.observers.get()
    ),
    "guarantee.curve": _trade_off,
    "ledger.budgets": _budgets,
    "audit.attacks": _attacks,
    "audit.attributes": _attributes,
    "utility.cells": _cells,
    "utility.groups": _groups,
    "utility.cost_of_privacy": _cost,
    "comparison.runs": _compared,
    "risks.risks": lambda report: tables_people.risks(report.risks.risks.get()),
    "clause_map.clauses": lambda report: tables_people.clauses(report.clause_map.clauses.get()),
    "sign_off.signatures": lambda report: [
        tables_people.signatures(report.sign_off.signatures.get())
    ],
}
