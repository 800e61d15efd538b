"""A population's budget as a bar, with its parts in words."""

from __future__ import annotations

import math

from markupsafe import Markup

from privfin.reporting.blocks_privacy import PopulationBudget
from privfin.reporting.numbers import at_least, at_most, delta_text, percent_at_most, significant
from privfin.reporting.page.svg import (
    COLOURS,
    Chart,
    picture,
    shape,
)


def budget_bar(budget: PopulationBudget, ident: str) -> Chart | None:
    """A population's budget as a bar: spent before, this run, held by open runs, left.

    Args:
        budget: the row.
        ident: identifier of the bar in its page.

    Returns:
        None without a cap: there is no whole to be a part of.
    """
    if budget.cap_epsilon is None:
        return None
    width, height = 360.0, 14.0
    amounts = (budget.before, budget.this_run, budget.reserved)
    used = sum(amounts)
    whole = max(used, budget.cap_epsilon)
    endless = math.isinf(used)
    hatch = f"{ident}-hatch"
    parts = [
        Markup(
            '<pattern id="{}" width="5" height="5" patternUnits="userSpaceOnUse" '
            'patternTransform="rotate(45)"><rect class="f-muted" fill="{}" width="2" height="5"/>'
            "</pattern>"
        ).format(hatch, COLOURS["muted"])
    ]
    if endless or whole > 0.0:
        at = 1.0
        fills = ("muted", "warn" if budget.is_over or endless else "series-0", f"url(#{hatch})")
        for amount, fill in zip(amounts, fills, strict=True):
            part = (float(math.isinf(amount)) if endless else amount / whole) * (width - 2)
            if part > 0.0:
                parts.append(shape("rect", fill=fill, x=at, y=1.0, width=part, height=height - 2))
                at += part
    parts.append(shape("rect", stroke="ink", x=0.5, y=0.5, width=width - 1, height=height - 1))
    if not endless and used > budget.cap_epsilon:
        cap = 1.0 + (width - 2) * budget.cap_epsilon / whole
        parts.append(shape("rect", fill="ink", x=cap - 1.5, y=0.0, width=3.0, height=height))
    return picture(ident, width, height, budget_title(budget), _budget_words(budget), parts)


def budget_title(budget: PopulationBudget) -> str:
    """How much of a budget is used, in words and percent."""
    if budget.cap_epsilon is None:
        return f"{budget.population}: no cap, so there is no bar"
    if math.isinf(budget.before + budget.this_run + budget.reserved):
        return f"{budget.population}: more than any cap is used"
    over = ", OVER THE CAP" if budget.is_over else ""
    if budget.cap_epsilon <= 0.0:
        return f"{budget.population}: the cap allows nothing{over}"
    # Rounded up: what is nearly used up is not shown as less than that.
    share = percent_at_most(round(1 - budget.left / budget.cap_epsilon, 9))
    return f"{budget.population}: {share} used{over}"


def _budget_words(budget: PopulationBudget) -> str:
    """The parts of a budget in words."""
    cap = "no cap" if budget.cap_epsilon is None else f"cap {significant(budget.cap_epsilon, 6)}"
    delta = "" if budget.cap_delta is None else f", epsilon at delta {delta_text(budget.cap_delta)}"
    left = "" if budget.cap_epsilon is None else f", left {at_least(max(budget.left, 0.0))}"
    return (
        f"spent before {at_most(budget.before)}, this run {at_most(budget.this_run)}, "
        f"held by open runs {at_most(budget.reserved)}{left}; {cap}{delta}"
    )
