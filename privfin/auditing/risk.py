"""Rules that turn an audit into a verdict: ``tpr@0.1%>0.01``, ``auc>0.6``, ``bound>claim``.

Two verdicts are kept apart. A *contradiction* is a bound above the claimed epsilon: the claim or
the code is wrong. A *risk* is a success of an attack that somebody has decided not to accept.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from attacks.measure import Measured
from attacks.roc import REPORTED_RATES
from privfin.errors import UserInputError

_RULE = re.compile(
    r"(?P<what>auc|bound|tpr@(?P<rate>[0-9.]+)%)\s*>\s*(?P<limit>claim|[0-9]*\.?[0-9]+)"
)


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        text: as it was written.
        what: ``auc``, ``bound`` or ``tpr``.
        rate: of false positives, for ``tpr``.
        limit: what may not be passed; None for the claim.
    """

    text: str
    what: str
    rate: float | None
    limit: float | None

    @property
    def is_contradiction(self) -> bool:
        """Whether it is about the claim, not about a risk."""
        return self.limit is None


def read_rule(text: str) -> Rule:
    """A rule from the command line.

    Raises:
        UserInputError: it is none.
    """
    found = _RULE.fullmatch(text.strip().lower())
    known = ", ".join(f"tpr@{rate:.4g}%" for rate in (100 * r for r in REPORTED_RATES))
    if found is None:
        raise UserInputError(
            f"--fail-on '{text}' is no rule: write bound>claim, bound>NUMBER, auc>NUMBER or "
            f"tpr@RATE%>NUMBER with RATE of {known}"
        )
    rate = None
    if found["rate"] is not None:
        rate = next(
            (r for r in REPORTED_RATES if math.isclose(100 * r, float(found["rate"]))), None
        )
        if rate is None:
            raise UserInputError(f"--fail-on '{text}': the rates are {known}")
    limit = None if found["limit"] == "claim" else float(found["limit"])
    what = found["what"].partition("@")[0]
    if limit is None and what != "bound":
        raise UserInputError(f"--fail-on '{text}': only a bound can be held against the claim")
    return Rule(text, what, rate, limit)


def passed(rules: Sequence[Rule], measured: Sequence[Measured]) -> list[str]:
    """A line for every risk rule that some attack passes: the worst one, and how many there are.

    AUC and TPR are held against their measured values, not against a limit of their intervals: a
    rule is to be kept, not to be shown broken.
    """
    lines = []
    for rule in rules:
        if rule.limit is None:
            continue
        values = [(_value(rule, one), one.attempt) for one in measured]
        over = [(v, at) for v, at in values if v is not None and v > rule.limit]
        if over:
            worst, at = max(over, key=lambda pair: pair[0])
            lines.append(
                f"{rule.text}: passed by {len(over)} of {len(measured)} attacks, most by "
                f"{at.attack} on patients '{at.stratum}', seen by the {at.observer}: {worst:.4g}"
            )
    return lines


def _value(rule: Rule, one: Measured) -> float | None:
    if rule.what == "auc":
        return one.area.area
    if rule.what == "bound":
        return None if one.bound is None else one.bound.epsilon
    return next(p.tpr for p in one.points if p.target_fpr == rule.rate)
