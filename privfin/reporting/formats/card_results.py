"""The results of a model card: what attacks found, and how well the model does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from privfin.reporting.blocks_results import AttackResult, CellResult, Interval
from privfin.reporting.facts import Fact, Strict
from privfin.reporting.formats.markdown import gap, inline, items, table, words
from privfin.reporting.numbers import at_least, at_most, percent, significant
from privfin.reporting.schema import Report

#: Rate of false alarms at which a card states how many members are found.
FALSE_ALARMS = 0.01

#: Fields of rows whose name alone would not be plain, and bounds with how they are rounded.
_COLUMNS = {
    "epsilon_bound": "epsilon at least",
    "epsilon_ceiling": "ceiling: could have shown",
    "claim": "epsilon claimed",
    "is_contradiction": "contradiction",
}
_ROUNDED = {"epsilon_bound": at_least, "epsilon_ceiling": at_least, "claim": at_most}


def attacks_section(report: Report) -> Iterator[str]:
    """What attacks found, each with the most that it could have found: blocks of Markdown."""
    audit = report.audit
    if not audit.attacks.is_known:
        yield inline(f"Membership attacks: {gap(audit.attacks)}")
    else:
        yield inline(
            "Finding: "
            + words(audit.verdict)
            + ". An attack that finds nothing does not prove that there is nothing: a test of this "
            "size could have shown no more than the ceiling."
        )
        yield table(
            (
                "attack",
                "observer",
                "patients",
                "members / others",
                "AUC",
                "members found at 1 % false alarms",
                "epsilon at least",
                "ceiling: could have shown",
                "epsilon claimed",
            ),
            map(_attack, audit.attacks.get()),
        )
        confidence = audit.confidence
        yield inline(
            "Confidence of intervals and bounds: "
            + (percent(confidence.get()) if confidence.is_known else gap(confidence))
        )
    others: dict[str, Fact[Any]] = {
        "Canaries": audit.canaries,
        "Attribute inference": audit.attributes,
        "Gradient inversion": audit.inversion,
    }
    for name, fact in others.items():
        if fact.value:
            yield f"{name}:"
            yield _whole_rows(fact.value)
    lines = [
        f"{name}: {'none' if fact.is_known else gap(fact)}"
        for name, fact in others.items()
        if not fact.value
    ]
    for name, fact in (
        ("Contradiction of the guarantee", audit.contradictions),
        ("Rule that was passed", audit.risks),
        ("Attack that was not made", audit.left_out),
    ):
        lines += [f"{name}: {line}" for line in fact.value or ()]
    if lines:
        yield items(lines)


def _attack(one: AttackResult) -> tuple[str, ...]:
    found = [row for row in one.tpr if row.target_fpr == FALSE_ALARMS]
    return (
        one.attack,
        one.observer,
        one.stratum,
        f"{one.members} / {one.nonmembers}",
        _interval(one.auc),
        _percent(found[0].tpr) if found else "not stated",
        _bound(one.epsilon_bound),
        _bound(one.epsilon_ceiling),
        at_most(one.claim),
    )


def _whole_rows(rows: Sequence[Strict]) -> str:
    """A table with all fields of the rows, so that a new field of the schema shows as well."""
    names = list(type(rows[0]).model_fields)
    return table(
        [_COLUMNS.get(name, name.replace("_", " ")) for name in names],
        ([_value(name, getattr(row, name)) for name in names] for row in rows),
    )


def _value(name: str, value: object) -> str:
    if value is None:
        return "not stated"
    if isinstance(value, Interval):
        return _interval(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return _ROUNDED.get(name, significant)(value)
    return str(value)


def _bound(bound: float | None) -> str:
    return "not stated" if bound is None else at_least(bound)


def _interval(one: Interval) -> str:
    if one.value is None:
        return "not stated"
    if one.low is None or one.high is None:
        return f"{one.value:.3f} (no interval)"
    return f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})"


def _percent(one: Interval) -> str:
    if one.value is None:
        return "not stated"
    if one.low is None or one.high is None:
        return f"{percent(one.value)} (no interval)"
    return f"{percent(one.value)} ({percent(one.low).removesuffix(' %')} to {percent(one.high)})"


def results_section(report: Report) -> Iterator[str]:
    """How well the model does, by cell and subgroup, with intervals: blocks of Markdown."""
    utility = report.utility
    if not utility.cells.is_known:
        yield inline(f"Results: {gap(utility.cells)}")
        return
    cells = utility.cells.get()
    are_bounds = bool(utility.is_secure.value)
    yield inline(f"Noise on these figures: {words(utility.noise)}")
    if are_bounds:
        yield (
            "The figures are read off encrypted sums. Their bounds enclose the figure of these "
            "patients; they say nothing of other patients."
        )
    yield table(
        (
            "held-out records with",
            "records",
            "patients",
            "low to high",
            "AUROC",
            "average precision",
            "calibration error",
            "Brier score",
        ),
        (_cell(cell, are_bounds) for cell in cells),
    )
    groups = utility.groups.value or ()
    rows = [(f"{group.by}: {group.group}", cell) for group in groups for cell in group.cells]
    if utility.groups.is_known:
        yield table(
            ("subgroup", "held-out records with", "patients", "AUROC"),
            ((name, cell.cell, str(cell.patients), _interval(cell.auroc)) for name, cell in rows),
        )
    else:
        yield inline(f"Subgroups: {gap(utility.groups)}")
    reasons = [f"{cell.cell}: {cell.withheld}" for cell in cells if cell.withheld]
    reasons += [f"{name}, {cell.cell}: {cell.withheld}" for name, cell in rows if cell.withheld]
    reasons += [
        f"{group.by}: {group.group}, {cell}: {why}"
        for group in groups
        for cell, why in group.left_out.items()
    ]
    if reasons:
        yield "Figures that are not there:"
        yield items(reasons)
    cost = utility.cost_of_privacy
    if cost.is_known:
        yield table(
            ("cost of privacy, held-out records with", "AUROC, private", "AUROC, not private",
             "difference"),
            (
                (one.cell, f"{one.private:.3f}", f"{one.not_private:.3f}", f"{one.difference:+.3f}")
                for one in cost.get()
            ),
        )  # fmt: skip
    else:
        yield inline(f"Cost of privacy: {gap(cost)}")


def _cell(cell: CellResult, are_bounds: bool) -> tuple[str, ...]:
    return (
        cell.cell,
        str(cell.records),
        str(cell.patients),
        "bounds" if are_bounds else f"{percent(cell.confidence)} interval",
        _interval(cell.auroc),
        _interval(cell.auprc),
        "not stated" if cell.ece is None else f"{cell.ece:.3f}",
        "not stated" if cell.brier is None else f"{cell.brier:.3f}",
    )
