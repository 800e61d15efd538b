"""Page one: who is protected, what somebody could still learn, and what attacks found."""

from __future__ import annotations

from privfin.reporting.answer import Answer, Tone, answer, gap
from privfin.reporting.blocks_privacy import Guarantee, ObserverGuarantee
from privfin.reporting.blocks_results import AttackResult, Audit, TprAtFpr
from privfin.reporting.odds import LITTLE_FROM, odds_of_curve, odds_of_pair
from privfin.reporting.schema import Report
from privfin.reporting.words import (
    at_least,
    at_most,
    listed,
    number_of,
    percent,
    percent_at_most,
)

_BETS = "Bets on whether one patient's records were used go"
_FALSE_ALARMS = 0.01
_NAMED_ATTACKS = 4

# How an audit calls an observer -> how the privacy statement does.
_OBSERVERS = {
    "outsider": "outsider",
    "site": "another site",
    "coordinator": "coordinator",
    "coordinator, no encryption": "coordinator with a site",
}


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
        else ""
    )
    overlap, tone = _two_sites(guarantee)
    return answer(
        tone,
        f"Each of {people} trained on, as a whole: what counts as one is {unit}.",
        second,
        overlap,
        fields=fields,
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
        f"{guarantee.delta.get():g}.",
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
    named = f"epsilon {at_most(epsilon)} at delta {delta:g}, for one patient"
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
    allowed = _allowed(worst)
    if allowed is None:
        return found
    return f"{found}; at 1 % false alarms at most {allowed} of the patients are found"


def _no_curve(guarantee: Guarantee) -> str:
    observers = guarantee.observers
    return "not known: no observer is listed" if observers.is_known else gap(observers)


def _allowed(observer: ObserverGuarantee) -> str | None:
    """The largest share of members found at 1 % false alarms, by the trade-off curve."""
    rates = {one.false_positive_rate: one.true_positive_rate for one in observer.trade_off}
    return percent_at_most(rates[_FALSE_ALARMS]) if _FALSE_ALARMS in rates else None


def _upper(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}"


def _is_contradicted(audit: Audit) -> bool:
    return audit.verdict.is_known and audit.verdict.get() == "contradiction"


def was_attacked(audit: Audit) -> bool:
    """Whether there are results of attacks."""
    return audit.was_done.is_known and audit.was_done.get() and audit.attacks.is_known


def attacked(report: Report) -> Answer:
    """By what it was attacked, what that found, and what it could have found at most."""
    audit = report.audit
    fields = ("/audit/was_done", "/audit/verdict", "/audit/attacks", "/audit/best_attack",
              "/audit/largest_ceiling", "/audit/contradictions", "/audit/risks")  # fmt: skip
    if not was_attacked(audit):
        return answer(
            "open",
            "NOT TESTED: 0 attacks were made on this run, so what the model gives away in practice "
            "is not known.",
            "The command 'privfin audit RUN' makes them.",
            fields=fields,
        )
    first, tone = _verdict(audit)
    limit, is_gap = ceiling(report)
    if is_gap and tone == "plain":
        tone = "open"
    return answer(tone, first, best_attack(report), limit, fields=fields)


def _verdict(audit: Audit) -> tuple[str, Tone]:
    rows = audit.attacks.get()
    names = list(dict.fromkeys(one.attack for one in rows))
    shown = names[:_NAMED_ATTACKS]
    if len(names) > len(shown):
        shown = [*shown[:-1], f"{len(names) - len(shown) + 1} more"]
    suite = f" of the {audit.suite.get()} suite" if audit.suite.is_known else ""
    models = (
        f", with {number_of(audit.shadow_models.get(), 'shadow model')}"
        if audit.shadow_models.is_known
        else ""
    )
    by = f"by {number_of(len(names), 'attack')}{suite} ({listed(shown)}{models})"
    if not audit.verdict.is_known:
        return f"Yes, {by}, but the verdict is {gap(audit.verdict)}.", "open"
    if audit.verdict.get() == "contradiction":
        return f"Yes, {by}, and the promise is CONTRADICTED: {_lines(audit, True)}.", "bad"
    if audit.verdict.get() == "risk":
        return f"Yes, {by}, and a RISK RULE WAS PASSED: {_lines(audit, False)}.", "bad"
    return f"Yes, {by}; none showed more than is promised, which is no proof.", "plain"


def _lines(audit: Audit, contradictions: bool) -> str:
    """The first line, and how many more there are."""
    lines = audit.contradictions if contradictions else audit.risks
    rows = lines.get() if lines.is_known else ()
    if not rows:
        return "no line says which"
    more = f", and {len(rows) - 1} more" if len(rows) > 1 else ""
    return f"{rows[0].rstrip('.')}{more}"


def best_attack(report: Report) -> str:
    """What the best attack found, beside guessing and what is promised."""
    audit = report.audit
    rows = audit.attacks.get()
    if not audit.best_attack.is_known or audit.best_attack.get() >= len(rows):
        return f"Which attack found most is {gap(audit.best_attack)}."
    best = rows[audit.best_attack.get()]
    point = next((one for one in best.tpr if one.target_fpr == _FALSE_ALARMS), None)
    if point is None or point.tpr.value is None:
        return f"How many members {best.attack} found is withheld or not defined."
    return (
        f"The best on all patients, {best.attack} as seen by the {best.observer}, found "
        f"{percent(point.tpr.value)} of the members{_interval(audit, point)} at 1 % false alarms; "
        f"guessing finds 1 %{_promised(report, best)}."
    )


def _interval(audit: Audit, point: TprAtFpr) -> str:
    low, high = point.tpr.low, point.tpr.high
    if low is None or high is None or not audit.confidence.is_known:
        return ""
    level = percent(audit.confidence.get(), 0)
    return f" ({level} interval {percent(low)} to {percent(high)})"


def _promised(report: Report, best: AttackResult) -> str:
    guarantee = report.guarantee
    if not (guarantee.is_private.is_known and guarantee.is_private.get()):
        return ", and nothing is promised"
    rows = guarantee.observers.get() if guarantee.observers.is_known else ()
    name = _OBSERVERS.get(best.observer, best.observer)
    row = next((one for one in rows if one.observer.startswith(name)), None)
    allowed = _allowed(row) if row else None
    return f", and the promise allows up to {allowed}" if allowed else ""


def ceiling(report: Report) -> tuple[str, bool]:
    """What the test showed and could have shown at most, and whether that is a gap."""
    audit, guarantee = report.audit, report.guarantee
    if not audit.largest_ceiling.is_known:
        why = gap(audit.largest_ceiling)
        return f"What the test could have found at most is {why}.", True
    largest = audit.largest_ceiling.get()
    unit = "for one patient"
    if guarantee.delta.is_known:
        unit = f"at delta {guarantee.delta.get():g}, {unit}"
    text = (
        f"It showed an epsilon of at least {at_least(_largest_bound(audit))} and could have found "
        f"at most {at_most(largest)} ({unit})"
    )
    if not guarantee.epsilon.is_known or not guarantee.is_private.is_known:
        return f"{text}.", False
    if not guarantee.is_private.get():
        return f"{text}; there is no promise to hold it against.", False
    claim = guarantee.epsilon.get()
    if largest < claim:
        return (
            f"{text}, which is below the promised {at_most(claim)}: however wrong that promise "
            "were, this test could not show it.",
            False,
        )
    return f"{text}, which reaches above the promised {at_most(claim)}.", False


def _largest_bound(audit: Audit) -> float:
    bounds = [one.epsilon_bound for one in audit.attacks.get()]
    if audit.canaries.is_known:
        bounds += [one.epsilon_bound for one in audit.canaries.get()]
    return max((one for one in bounds if one is not None), default=0.0)
