"""Tables of what is promised, and of what attacks found."""

from __future__ import annotations

from collections.abc import Sequence

from privfin.reporting.blocks_privacy import ObserverGuarantee, TradeOff
from privfin.reporting.blocks_results import (
    AttackResult,
)
from privfin.reporting.numbers import at_least, at_most, counted, delta_text
from privfin.reporting.page.charts_rates import most_by_epsilon_alone
from privfin.reporting.page.tables import Table
from privfin.reporting.page.wording import (
    NOT_STATED,
    interval,
    percent,
)


def observers(rows: Sequence[ObserverGuarantee]) -> list[Table]:
    """The guarantee against each observer, and the most that each could find."""
    promised = Table(
        "What is promised against each observer, for one protected unit",
        ("observer", "what it sees", "epsilon", "delta", "mu", "right at most, from 50:50",
         "by epsilon and delta alone"),
        tuple(
            (row.observer, row.sees, at_most(row.epsilon), delta_text(row.delta), at_most(row.mu),
             percent(row.best_accuracy), percent(row.certainty_of_epsilon_alone))
            for row in rows
        ),
        frozenset({2, 3, 4, 5, 6}),
    )  # fmt: skip
    rates = sorted({point.false_positive_rate for row in rows for point in row.trade_off})
    if not rates:
        return [promised]
    found = [
        {point.false_positive_rate: point.true_positive_rate for point in row.trade_off}
        for row in rows
    ]
    most = Table(
        "Most members that any attack finds, at rates of false alarms",
        ("observer", *(f"at {percent(rate)}" for rate in rates)),
        tuple(
            (row.observer, *(percent(at[rate]) if rate in at else NOT_STATED for rate in rates))
            for row, at in zip(rows, found, strict=True)
        ),
        frozenset(range(1, len(rates) + 1)),
    )
    return [promised, most]


def trade_off(
    curve: Sequence[TradeOff], epsilon: float, delta: float, attacks: Sequence[AttackResult]
) -> list[Table]:
    """What the chart of the trade-off curve shows: points of the curve, and attacks."""
    step = max(1, (len(curve) - 1) // 11)
    kept = [*curve[:-1:step], *curve[-1:]]
    of = "" if len(kept) == len(curve) else f"{len(kept)} of {len(curve)} points; "
    points = Table(
        f"Trade-off curve ({of}the file of JSON has all)",
        ("false alarms", "most members found", "by epsilon and delta alone"),
        tuple(
            (percent(one.false_positive_rate), percent(one.true_positive_rate),
             percent(most_by_epsilon_alone(one.false_positive_rate, epsilon, delta)))
            for one in kept
        ),
        frozenset({0, 1, 2}),
    )  # fmt: skip
    if not attacks:
        return [points]
    marks = Table(
        "Attacks; drawn as points where the rate can be told from none",
        ("attack", "false alarms", "members found", "can be told from none"),
        tuple(
            (one.attack, percent(at.fpr), interval(at.tpr, share=True),
             "yes" if at.is_resolved else "no: too few patients")
            for one in attacks
            for at in one.tpr
        ),
        frozenset({1, 2}),
    )  # fmt: skip
    return [points, marks]


def attacks(observer: str, rows: Sequence[AttackResult], delta: str) -> list[Table]:
    """Attacks by one observer, and what has to be known beside their figures."""
    rates = sorted({at.target_fpr for row in rows for at in row.tpr}, reverse=True)
    claims = ", ".join(dict.fromkeys(at_most(row.claim) for row in rows))
    results = Table(
        f"Membership attacks by the observer {observer}; epsilon claimed {claims} at delta {delta}",
        ("attack", "patients (trained on, others)", "AUC",
         *(f"found at {percent(rate)} false alarms" for rate in rates),
         "epsilon at least", "could have shown"),
        tuple(
            (row.attack, f"{row.stratum} ({counted(row.members)}, {counted(row.nonmembers)})",
             interval(row.auc), *(_found(row, rate) for rate in rates), *_bounds(row))
            for row in rows
        ),
        frozenset(range(2, 5 + len(rates))),
    )  # fmt: skip
    noted: dict[str, list[str]] = {}
    for row in rows:
        for words in filter(None, (row.withheld, row.note)):
            noted.setdefault(words, []).append(f"{row.attack} ({row.stratum})")
    notes = Table(
        f"Notes on the attacks by the observer {observer}",
        ("note", "attacks (patients)"),
        tuple((words, ", ".join(which)) for words, which in noted.items()),
    )
    return [results, *([notes] if notes.rows else [])]


def _found(row: AttackResult, rate: float) -> str:
    for at in row.tpr:
        if at.target_fpr == rate:
            return interval(at.tpr, share=True) + ("" if at.is_resolved else ", not resolved")
    return NOT_STATED


def _bounds(row: AttackResult) -> tuple[str, str]:
    bound, ceiling = row.epsilon_bound, row.epsilon_ceiling
    return (
        NOT_STATED if bound is None else at_least(bound),
        NOT_STATED if ceiling is None else at_least(ceiling),
    )
