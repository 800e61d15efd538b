"""Charts of a report, from its rows alone. Each says in words what it shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from privfin.reporting.blocks_privacy import PopulationBudget, TradeOff
from privfin.reporting.blocks_results import (
    AttackResult,
    AttributeResult,
    Interval,
    PrivacyCost,
)
from privfin.reporting.numbers import at_least, at_most, delta_text, significant
from privfin.reporting.page.svg import (
    COLOURS,
    DASHES,
    SERIES,
    Chart,
    Plot,
    Scale,
    legend,
    line,
    marker,
    picture,
    shape,
    shortened,
    text,
)
from privfin.reporting.page.wording import percent

#: Smallest rate of false alarms that is drawn.
SMALLEST_RATE = 1e-3
_SIDE, _LEFT, _TOP, _WIDTH = 300.0, 48.0, 30.0, 620.0


def most_by_epsilon_alone(rate: float, epsilon: float, delta: float) -> float:
    """No test finds more members at this rate of false alarms, by (epsilon, delta) alone.

    The bound of Wasserman and Zhou, "A statistical framework for differential privacy" (2010),
    theorem 2.4, and of Kairouz, Oh and Viswanath, "The composition theorem for differential
    privacy" (2015), theorem 2.1.
    """
    if math.isinf(epsilon) or epsilon > 700.0:
        return 1.0
    first = math.exp(epsilon) * rate + delta
    second = 1.0 - math.exp(-epsilon) * (1.0 - delta - rate)
    return max(rate, min(1.0, first, second))


def trade_off_chart(
    curve: Sequence[TradeOff], epsilon: float, delta: float, attacks: Sequence[AttackResult]
) -> Chart:
    """What no attack can pass, what (epsilon, delta) alone would allow, and what attacks found.

    Args:
        curve: points that rise with the rate of false alarms.
        epsilon: of the same guarantee; may be infinite.
        delta: of the same guarantee.
        attacks: rows whose rates at small rates of false alarms are drawn as points.
    """
    plot = _rates("members found (share)")
    rates = [10 ** (-3 + 3 * k / 120) for k in range(121)]
    alone = [(rate, most_by_epsilon_alone(rate, epsilon, delta)) for rate in rates]
    true = [(point.false_positive_rate, point.true_positive_rate) for point in curve]
    parts = [
        *plot.grid(),
        plot.curve([(rate, rate) for rate in (SMALLEST_RATE, 1.0)], "muted", "2 4"),
        plot.curve(alone, "series-1", "7 3"),
        plot.curve(true, "series-0"),
    ]
    entries = [
        (_sample("series-0"), "most, by the trade-off curve"),
        (_sample("series-1", "7 3"), "most, by epsilon and delta"),
        (_sample("muted", "2 4"), "guessing"),
    ]
    for index, attack in enumerate(attacks):
        series = (index + 2) % SERIES
        for at in attack.tpr:
            # A rate that the sample cannot tell from none has no place on a logarithmic axis.
            if at.tpr.value is not None and at.is_resolved and at.fpr >= SMALLEST_RATE:
                x = plot.x(at.fpr)
                parts += _whisker_up(plot, x, at.tpr, series)
                parts.append(marker(x, plot.y(at.tpr.value), series))
        entries.append((marker(0, 0, series), f"attack: {attack.attack}"))
    parts += legend(_LEFT + _SIDE + 30, _TOP + 10, entries)
    told = (
        f"Both axes are logarithmic, from {percent(SMALLEST_RATE)} to 100 %. "
        + _told_curve(true)
        + f" By epsilon {at_most(epsilon)} and delta {delta_text(delta)} alone it would be "
        f"{percent(most_by_epsilon_alone(0.01, epsilon, delta))} at 1 % false alarms. "
        f"{len(attacks)} attacks are drawn as points with their intervals, where the sample can "
        "tell so small a rate of false alarms from none."
    )
    title = "Members found against false alarms: what no attack can pass, and what attacks found"
    return picture("chart-trade-off", _WIDTH, _height(len(entries)), title, told, parts)


def roc_chart(observer: str, attacks: Sequence[AttackResult], place: int) -> Chart:
    """ROC curves of one observer's attacks, both axes logarithmic.

    Args:
        observer: whose view.
        attacks: rows, each a curve.
        place: of the chart among its kind, for its identifier.
    """
    plot = _rates("members found (share)")
    parts = [*plot.grid(), plot.curve([(SMALLEST_RATE, SMALLEST_RATE), (1, 1)], "muted", "2 4")]
    entries = [(_sample("muted", "2 4"), "guessing")]
    for index, attack in enumerate(attacks):
        colour, dash = f"series-{index % SERIES}", DASHES[index % len(DASHES)]
        parts.append(plot.curve(_thinned(attack.curve), colour, dash))
        entries.append((_sample(colour, dash), attack.attack))
    parts += legend(_LEFT + _SIDE + 30, _TOP + 10, entries)
    told = "Both axes are logarithmic. " + " ".join(
        f"{attack.attack}: area under the curve {attack.auc.value:.3f}."
        for attack in attacks
        if attack.auc.value is not None
    )
    title = f"ROC curves of attacks by the observer {observer}"
    return picture(f"chart-roc-{place}", _WIDTH, _height(len(entries)), title, told, parts)


@dataclass(frozen=True)
class Whiskers:
    """A row of a dot-and-whisker chart: a label and one interval for each series, or None."""

    label: str
    intervals: tuple[Interval | None, ...]


def interval_chart(
    ident: str,
    title: str,
    x_words: str,
    rows: Sequence[Whiskers],
    series: Sequence[str] = (),
    reference: float | None = 0.5,
) -> Chart:
    """Values with their intervals, a row each.

    Args:
        ident: identifier of the chart in its page.
        title: what it shows.
        x_words: what is measured, under the axis.
        rows: from top to bottom.
        series: names, if there is more than one interval in a row.
        reference: a value that means nothing was learned; drawn as a dotted line. None for none.
    """
    found = [one for row in rows for one in row.intervals if one is not None]
    ends = [e for one in found for e in (one.value, one.low, one.high) if e is not None]
    ends += [0.5 if reference is None else reference]
    low, high = min(ends), max(ends)
    pad = max((high - low) * 0.06, 0.01)
    step = 26.0 if len(series) < 2 else 14.0 * len(series) + 8.0
    legend_height = 22.0 * len(series)
    left, top = 190.0, 12.0 + legend_height
    bottom = top + step * len(rows)
    x = Scale(low - pad, high + pad, left, _WIDTH - 16)
    parts = []
    for at in x.ticks():
        parts.append(shape("line", stroke="line", x1=x(at), x2=x(at), y1=top, y2=bottom))
        parts.append(text(x(at), bottom + 16, f"{at:g}", anchor="middle", colour="muted"))
    told = f"{len(rows)} rows; the table below has every number."
    if reference is not None:
        parts.append(line([(x(reference), top), (x(reference), bottom)], "muted", "2 4"))
        told += f" A dotted line marks {reference:g}."
    parts.append(text((left + _WIDTH) / 2, bottom + 36, x_words, anchor="middle"))
    for index, row in enumerate(rows):
        middle = top + step * (index + 0.5)
        parts.append(text(left - 10, middle + 4, shortened(row.label), anchor="end"))
        offset = -7.0 * (len(row.intervals) - 1)
        for number_, one in enumerate(row.intervals):
            if one is not None and one.value is not None:
                y = middle + offset + 14.0 * number_
                colour = f"series-{number_ % SERIES}"
                if one.low is not None and one.high is not None:
                    parts.append(line([(x(one.low), y), (x(one.high), y)], colour))
                parts.append(marker(x(one.value), y, number_))
    parts += legend(left, 14, [(marker(0, 0, k), name) for k, name in enumerate(series)])
    return picture(ident, _WIDTH, bottom + 46, title, told, parts)


def cost_chart(rows: Sequence[PrivacyCost]) -> Chart:
    """Macro AUROC with and without privacy, a row for each cell."""
    return interval_chart(
        "chart-cost",
        "Macro AUROC with privacy and without it",
        "macro AUROC; the dotted line is guessing",
        [
            Whiskers(row.cell, (Interval(value=row.private), Interval(value=row.not_private)))
            for row in rows
        ],
        ("this run", "without privacy"),
    )


def attributes_chart(rows: Sequence[AttributeResult]) -> Chart:
    """How well attributes are guessed with the model and without it."""
    return interval_chart(
        "chart-attributes",
        "Attributes guessed with the model and without it",
        "balanced accuracy",
        [
            Whiskers(
                f"{row.attribute}, {row.seen}",
                (row.with_model, row.without_model, Interval(value=row.chance)),
            )
            for row in rows
        ],
        ("with the model", "without the model", "always the same guess"),
        reference=None,
    )


def auroc_chart(ident: str, which: str, rows: Sequence[tuple[str, Interval]]) -> Chart:
    """AUROC with its interval, a row for each name."""
    return interval_chart(
        f"chart-{ident}",
        f"AUROC {which}",
        "AUROC; the dotted line is guessing",
        [Whiskers(name, (found,)) for name, found in rows],
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
    share = math.ceil(100 * (1 - budget.left / budget.cap_epsilon) - 1e-9)
    return f"{budget.population}: {share} % used{over}"


def _budget_words(budget: PopulationBudget) -> str:
    """The parts of a budget in words."""
    cap = "no cap" if budget.cap_epsilon is None else f"cap {significant(budget.cap_epsilon, 6)}"
    delta = "" if budget.cap_delta is None else f", epsilon at delta {delta_text(budget.cap_delta)}"
    left = "" if budget.cap_epsilon is None else f", left {at_least(max(budget.left, 0.0))}"
    return (
        f"spent before {at_most(budget.before)}, this run {at_most(budget.this_run)}, "
        f"held by open runs {at_most(budget.reserved)}{left}; {cap}{delta}"
    )


def _rates(y_words: str) -> Plot:
    x = Scale(SMALLEST_RATE, 1.0, _LEFT, _LEFT + _SIDE, is_log=True)
    y = Scale(SMALLEST_RATE, 1.0, _TOP + _SIDE, _TOP, is_log=True)
    return Plot(x, y, "false alarms (share)", y_words)


def _height(entries: int) -> float:
    return max(_TOP + _SIDE + 46, _TOP + 20.0 * entries + 10)


def _sample(colour: str, dash: str = "none") -> Markup:
    return line([(-12, 0), (12, 0)], colour, dash)


def _whisker_up(plot: Plot, x: float, found: Interval, series: int) -> list[Markup]:
    if found.low is None or found.high is None:
        return []
    return [line([(x, plot.y(found.low)), (x, plot.y(found.high))], f"series-{series}")]


def _thinned(curve: Sequence[tuple[float, float]], most: int = 120) -> list[tuple[float, float]]:
    """A curve with about ``most`` points, as many for each part of a logarithmic axis."""
    kept: dict[int, tuple[float, float]] = {}
    for rate, found in curve:
        at = math.log10(max(rate, SMALLEST_RATE)) / math.log10(SMALLEST_RATE)
        kept[round(at * most)] = (rate, found)  # the last of a place is its highest
    return sorted({(0.0, 0.0), *kept.values()})


def _told_curve(points: Sequence[tuple[float, float]]) -> str:
    near = [found for rate, found in points if math.isclose(rate, 0.01, rel_tol=0.2)]
    if not near:
        return ""
    return f"By the trade-off curve, no attack finds more than {percent(near[0])} at 1 %."
