"""Page one: who is protected, and what somebody could still learn, as odds."""

from __future__ import annotations

from privfin.reporting.blocks_privacy import Guarantee, ObserverGuarantee
from privfin.reporting.blocks_results import Audit
from privfin.reporting.numbers import (
    at_most,
    delta_text,
    number_of,
    percent_at_most,
)
from privfin.reporting.schema import Report
from privfin.reporting.summary.answer import Answer, Tone, answer, gap
from privfin.reporting.summary.odds import LITTLE_FROM, odds_of_curve, odds_of_pair

_BETS = "Bets on whether one patient's records were used go"
#: Rate of false alarms at which page one says how many members are found.
FALSE_ALARMS = 0.01


def protected(report: Report) -> Answer:
    """Whose data the promise is about, and for whom nothing is promised."""
    guarantee, data = report.guarantee, report.data
    fields = ("/guarantee/claim", "/guarantee/unit", "/guarantee/adjacency",
              "/guarantee/no_person_at_two_sites", "/data/training_patients",
              "/data/held_out_patients")  # fmt: skip
    people = (
        number_of(data.training_patients.get(), "patient")
        if data.training_patients.is_known
        else "an unknown number of patients"
    )
    if not guarantee.is_private.is_known:
        first = f"Whether anything is promised is {gap(guarantee.is_private)}."
        return answer("open", first, fields=fields)
    if not guarantee.is_private.get():
        why = guarantee.claim.get() if guarantee.claim.is_known else "NOT PRIVATE"
        return answer(
            "bad",
            f"Nobody: nothing is promised to any of the {people} trained on.",
            f"{_without_number(why)}.",
            fields=fields,
        )
    unit = data.unit.get() if data.unit.is_known else "a unit that is not known"
    held_out = data.held_out_patients
    second = (
        "Not protected, because figures were measured on them: "
        f"{number_of(held_out.get(), 'held-out patient')}."
        if held_out.is_known
        else f"How many held-out patients are not protected is {gap(held_out)}."
    )
    overlap, tone = _two_sites(guarantee)
    return answer(
        tone,
        f"Each of {people} trained on, as a whole: what counts as one is {unit}.",
        second,
        overlap,
        fields=fields,
        needs=(data.training_patients, data.unit, data.held_out_patients),
    )


def _without_number(claim: str) -> str:
    """The claim without ``(epsilon = inf)``: no epsilon stands alone on page one."""
    return claim.partition(" (epsilon")[0].rstrip(".")


def _two_sites(guarantee: Guarantee) -> tuple[str, Tone]:
    known, everywhere = guarantee.no_person_at_two_sites, guarantee.epsilon_at_every_site
    status = known.get() if known.is_known else "unknown"
    if status == "checked":
        return "", "plain"
    words = {
        "declared": "That no person is a patient of 2 sites is declared, not checked",
        "unknown": "Whether a person is a patient of 2 sites is unknown",
    }[status]
    if not everywhere.is_known or not guarantee.delta.is_known:
        return f"{words}.", "open"
    return (
        f"{words}; for a patient of every site epsilon is {at_most(everywhere.get())} at delta "
        f"{delta_text(guarantee.delta.get())}.",
        "open",
    )


def odds(report: Report) -> Answer:
    """From 50:50 to what: by the pair (epsilon, delta), and by the trade-off curve."""
    guarantee = report.guarantee
    fields = ("/guarantee/epsilon", "/guarantee/delta", "/guarantee/observers",
              "/audit/contradictions")  # fmt: skip
    if guarantee.is_private.is_known and not guarantee.is_private.get():
        return answer(
            "bad",
            f"NOT PRIVATE: nothing is promised. {_BETS} from 50:50 to 100:0 in the worst case.",
            fields=fields,
        )
    if not guarantee.epsilon.is_known or not guarantee.delta.is_known:
        missing = guarantee.epsilon if not guarantee.epsilon.is_known else guarantee.delta
        return answer("open", f"What is promised is {gap(missing)}.", fields=fields)
    epsilon, delta = guarantee.epsilon.get(), guarantee.delta.get()
    pair = odds_of_pair(epsilon, delta)
    named = f"epsilon {at_most(epsilon)} at delta {delta_text(delta)}, for one patient"
    curve = by_curve(guarantee)
    tone: Tone = "plain" if curve else "open"
    if epsilon >= LITTLE_FROM:
        # The curve is the stronger promise, so it comes first.
        first = f"{_BETS} {curve}." if curve else f"The trade-off curve is {_no_curve(guarantee)}."
        second = f"The pair alone ({named}) promises little: bets go {pair}."
        third = "So rely on the trade-off curve, and on what attacks found (next answer)."
        tone = "open"
    else:
        first = f"{_BETS} {pair}, by the promise of {named}."
        second = f"More exactly, they go {curve}." if curve else ""
        third = "" if curve else f"The trade-off curve is {_no_curve(guarantee)}."
    if _is_contradicted(report.audit):
        third, tone = "An attack CONTRADICTS this promise: see the next answer.", "bad"
    return answer(tone, first, second, third, fields=fields)


def by_curve(guarantee: Guarantee) -> str:
    """The odds of the observer against whom least is promised; empty if no curve is known."""
    rows = guarantee.observers.get() if guarantee.observers.is_known else ()
    if not rows:
        return ""
    worst = max(rows, key=lambda one: (one.best_accuracy, one.epsilon))
    number = number_of(len(rows), "observer")
    alike = all(one.best_accuracy == worst.best_accuracy for one in rows)
    whom = f"each of {number}" if alike else f"the strongest of {number} ({worst.observer})"
    found = (
        f"{odds_of_curve(worst.best_accuracy)} on average, by the whole trade-off curve against "
        f"{whom}"
    )
    allowed = found_at_most(worst)
    if allowed is None:
        return found
    return f"{found}; at 1 % false alarms at most {allowed} of the patients are found"


def _no_curve(guarantee: Guarantee) -> str:
    observers = guarantee.observers
    return "not known: no observer is listed" if observers.is_known else gap(observers)


def found_at_most(observer: ObserverGuarantee) -> str | None:
    """The largest share of members found at 1 % false alarms, by the trade-off curve."""
    rates = {one.false_positive_rate: one.true_positive_rate for one in observer.trade_off}
    return percent_at_most(rates[FALSE_ALARMS]) if FALSE_ALARMS in rates else None


def _upper(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}"


def _is_contradicted(audit: Audit) -> bool:
    return audit.verdict.is_known and audit.verdict.get() == "contradiction"
