"""Page one: what attacks found, and what they could have found at most."""

from __future__ import annotations

from privfin.reporting.blocks_results import AttackResult, Audit, CanaryTest, TprAtFpr
from privfin.reporting.numbers import at_least, at_most, delta_text, number_of, percent
from privfin.reporting.schema import Report
from privfin.reporting.summary.answer import Answer, Tone, answer, gap
from privfin.reporting.summary.privacy import FALSE_ALARMS, found_at_most

# As the audit calls who would see updates without encryption, and who sees every noisy step.
_IF_NOT_ENCRYPTED = "coordinator, no encryption"
_WHITE_BOX = "training"

# How an audit calls an observer -> how the privacy statement does.
_OBSERVERS = {
    "outsider": "outsider",
    "site": "another site",
    "coordinator": "coordinator",
    "coordinator, no encryption": "coordinator with a site",
}


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
    return answer(
        tone,
        first,
        best_attack(report),
        ceiling(report),
        fields=fields,
        needs=(audit.best_attack, audit.largest_ceiling),
    )


def _verdict(audit: Audit) -> tuple[str, Tone]:
    by = f"by {number_of(len({one.attack for one in audit.attacks.get()}), 'attack')}"
    if audit.canaries.is_known and audit.canaries.get():
        by += f" and {number_of(len(audit.canaries.get()), 'test')} with invented patients"
    if audit.suite.is_known:
        by += f" ({audit.suite.get()} suite)"
    if not audit.verdict.is_known:
        return f"Yes, {by}, but the verdict is {gap(audit.verdict)}.", "open"
    if audit.verdict.get() == "contradiction":
        return f"Yes, {by}, and the promise is CONTRADICTED: {_lines(audit, True)}.", "bad"
    if audit.verdict.get() == "risk":
        return f"Yes, {by}, and a RISK RULE WAS PASSED: {_lines(audit, False)}.", "bad"
    return f"Yes, {by}; none contradicts the promise, which is no proof.", "plain"


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
    point = next((one for one in best.tpr if one.target_fpr == FALSE_ALARMS), None)
    if point is None or point.tpr.value is None:
        return f"How many members {best.attack} found is withheld or not defined."
    return (
        f"At 1 % false alarms the best, {best.attack} as seen by the {best.observer}, found "
        f"{percent(point.tpr.value)} of {_whom(best)}{_interval(audit, point)}; guessing "
        f"finds 1 %{_promised(report, best)}."
    )


def _whom(best: AttackResult) -> str:
    """Whose members: of a part of the patients another attack may find a larger share."""
    return "all members" if best.stratum == "all" else f"the members in '{best.stratum}'"


def _interval(audit: Audit, point: TprAtFpr) -> str:
    low, high = point.tpr.low, point.tpr.high
    if low is None or high is None or not audit.confidence.is_known:
        return ""
    level = percent(audit.confidence.get())
    return f" ({level} interval {percent(low).removesuffix(' %')} to {percent(high)})"


def _promised(report: Report, best: AttackResult) -> str:
    guarantee = report.guarantee
    if not (guarantee.is_private.is_known and guarantee.is_private.get()):
        return ", and nothing is promised"
    rows = guarantee.observers.get() if guarantee.observers.is_known else ()
    name = _OBSERVERS.get(best.observer, best.observer)
    row = next((one for one in rows if one.observer.startswith(name)), None)
    allowed = found_at_most(row) if row else None
    return f", and the promise allows up to {allowed}" if allowed else ""


def ceiling(report: Report) -> str:
    """What the test showed, and what it could have shown at most."""
    audit, guarantee = report.audit, report.guarantee
    if not audit.largest_ceiling.is_known:
        return f"What the test could have found at most is {gap(audit.largest_ceiling)}."
    largest = audit.largest_ceiling.get()
    unit = "one patient"
    if guarantee.delta.is_known:
        unit = f"delta {delta_text(guarantee.delta.get())}, {unit}"
    shown = max(_bounds(report, white_box=False), default=0.0)
    text = (
        f"Observers could show epsilon {at_least(largest)} at most (shown: at least "
        f"{at_least(shown)}{_white_box(report)}; {unit})"
    )
    if not guarantee.epsilon.is_known or not guarantee.is_private.is_known:
        return f"{text}."
    if not guarantee.is_private.get():
        return f"{text}; there is no promise to hold it against."
    claim = guarantee.epsilon.get()
    if largest < claim:
        return f"{text}: too little to refute the promised {at_most(claim)}."
    return f"{text}, which reaches the promised {at_most(claim)}."


def _bounds(report: Report, white_box: bool) -> list[float]:
    """Bounds shown by who could see what they rest on, or by tests that see every noisy step."""
    audit, kind = report.audit, report.exchange.kind
    is_encrypted = kind.is_known and kind.get() != "none"
    found = [] if white_box else [
        one.epsilon_bound
        for one in audit.attacks.get()
        if not (is_encrypted and one.observer == _IF_NOT_ENCRYPTED)
    ]  # fmt: skip
    found += [one.epsilon_bound for one in _canaries(audit, white_box)]
    return [one for one in found if one is not None]


def _canaries(audit: Audit, white_box: bool) -> list[CanaryTest]:
    rows = audit.canaries.get() if audit.canaries.is_known else ()
    return [one for one in rows if (one.observer == _WHITE_BOX) is white_box]


def _white_box(report: Report) -> str:
    """What tests with every noisy step in view showed; their ceiling bounds no real observer."""
    shown = _bounds(report, white_box=True)
    if not shown:
        return ""
    return f", or {at_least(max(shown))} with every noisy step in view"
