"""Charts of values with their intervals. Each says in words what it shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from privfin.reporting.blocks_results import (
    AttributeResult,
    Interval,
    PrivacyCost,
)
from privfin.reporting.page.svg import (
    SERIES,
    Chart,
    Scale,
    legend,
    line,
    marker,
    picture,
    shape,
    shortened,
    text,
)

_WIDTH = 620.0


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
