"""Charts of members found against false alarms. Each says in words what it shows."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from privfin.reporting.blocks_privacy import TradeOff
from privfin.reporting.blocks_results import (
    AttackResult,
    Interval,
)
from privfin.reporting.numbers import at_most, delta_text
from privfin.reporting.page.svg import (
    DASHES,
    SERIES,
    Chart,
    Plot,
    Scale,
    legend,
    line,
    marker,
    picture,
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
