"""Values of a report as readers see them. Text stays plain here; templates escape it."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from privfin.reporting import numbers
from privfin.reporting.blocks_results import Interval
from privfin.reporting.facts import Fact
from privfin.reporting.numbers import at_least, at_most, delta_text, exact_size, significant
from privfin.reporting.schema import Report

NOT_STATED = "not stated"
#: A space at which no line is broken.
KEEP = "\u00a0"


def percent(share: float) -> str:
    """A share as percent that stays on one line: ``2.1 %``; 100 % for all only."""
    return numbers.percent(share).replace(" ", KEEP)


def moment(value: str) -> str:
    """A time of ISO 8601 as ``2026-01-02 03:04 UTC``; what is no such time stays as it is."""
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return value
    return found.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC") if found.tzinfo else value


def interval(found: Interval, *, share: bool = False) -> str:
    """``0.685 (0.655 to 0.715)``; ``2.1 % (1 to 4.2)`` if it is a ``share``."""
    if found.value is None:
        return NOT_STATED
    one = percent if share else "{:.3f}".format
    if found.low is None or found.high is None:
        return one(found.value)
    low, high = one(found.low).removesuffix(f"{KEEP}%"), one(found.high).removesuffix(f"{KEEP}%")
    return f"{one(found.value)} ({low}{KEEP}to{KEEP}{high})"


def epsilon_phrase(
    report: Report, epsilon: float, rounded: Callable[[float], str] = at_most
) -> str:
    """An epsilon with its delta and its unit, without which it means nothing."""
    if math.isinf(epsilon):
        return "infinite: nothing is promised"
    delta, unit = report.guarantee.delta, report.guarantee.unit
    at = f"at delta {delta_text(delta.get())}" if delta.is_known else "at an unknown delta"
    of = f"for one {unit.get()}" if unit.is_known else "for an unknown unit"
    return f"{rounded(epsilon)}, {at}, {of}"


def plain(name: str, value: object) -> str | tuple[str, ...]:
    """A value of a field or a row, by its type and, for floats and counts, by its name."""
    match value:
        case None:
            return _IF_NONE.get(name, NOT_STATED)
        case bool():
            return "yes" if value else "no"
        case int():
            return str(value) if name in _IDENTIFIERS else f"{value:,}"
        case float() if name in _LOWER_BOUNDS:
            return at_least(value)
        case float() if name in _UPPER_BOUNDS:
            return at_most(value)
        case float() if name.endswith("delta"):
            return delta_text(value)
        case float():
            return significant(value)
        case Interval():
            return interval(value)
        case tuple():
            return tuple(str(one) for one in value) or "none"
        case dict():
            return tuple(f"{key}: {one}" for key, one in value.items()) or "none"
        case _:
            return str(value)


_IF_NONE = {
    "cap_epsilon": "no cap",
    "cap_delta": "no cap",
    "noise_multiplier": "none, or withheld",
    "clip_norm": "none, or withheld",
    "sampling_rate": "none, or withheld",
    "divisor": "none, or withheld",
}
_IDENTIFIERS = {"seq", "public_seed", "round", "attempt"}
_LOWER_BOUNDS = {"epsilon_bound", "epsilon_ceiling", "largest_ceiling", "left"}
_UPPER_BOUNDS = {"epsilon", "before", "this_run", "reserved", "claim", "mu"}

_EPSILONS = {
    "guarantee.epsilon",
    "guarantee.epsilon_at_every_site",
    "mechanism.target_epsilon",
    "accounting.recomputed_epsilon",
    "accounting.second_accountant",
}
_VERDICTS = {
    "contradiction": "contradiction: an attack found more than the guarantee allows",
    "risk": "risk: an attack passed a rule that is named below",
    "none found": "none found: no attack contradicted the guarantee or passed a rule. "
    "That does not show that nothing leaks",
}


def fact_words(report: Report, path: str, fact: Fact[Any]) -> str | tuple[str, ...]:
    """The value of a fact in words; for a gap, that nothing is known.

    Args:
        report: the whole report, for the delta and the unit of an epsilon.
        path: of the fact, ``block.field``.
        fact: without rows of its own.
    """
    value = fact.value
    if value is None:
        return "not assessed" if fact.status == "not_assessed" else "not applicable"
    if path in _EPSILONS:
        return epsilon_phrase(report, value)
    match path:
        case "report.created" | "report.run_created":
            return moment(value)
        case "audit.largest_ceiling" if math.isinf(value):
            return "no limit"
        case "audit.largest_ceiling":
            return f"epsilon {epsilon_phrase(report, value, at_least)}"
        case "audit.best_attack":
            return _best_attack(report, value)
        case "audit.verdict":
            return _VERDICTS[value]
        case "audit.confidence":
            return percent(value)
        case "exchange.bytes_up" | "exchange.bytes_down":
            return exact_size(value)
        case "exchange.log2_failure":
            once = f"once in 2 to the power of {significant(-value)}"
            return f"{significant(value)}: less often than {once}"
    name = path.partition(".")[2]
    return plain(name, value)


def _best_attack(report: Report, index: int) -> str:
    rows = report.audit.attacks.value or ()
    if index >= len(rows):
        return f"row {index} of the membership attacks"
    best = rows[index]
    found = "; ".join(
        f"{interval(at.tpr, share=True)} of members at {percent(at.target_fpr)} false alarms"
        for at in best.tpr
    )
    return f"{best.attack} by the observer {best.observer}: {found}"
