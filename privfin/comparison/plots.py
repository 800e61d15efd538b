"""Two pictures: settings beside each other, and what privacy costs."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from privfin.comparison.drawing import DASHES, INK, MARKERS, PALETTE, prepare_matplotlib, style
from privfin.comparison.results import Comparison, Summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAME_WIDTH = 34
_COLUMNS = 3


def forest(comparison: Comparison) -> Figure:
    """Each setting's figure with its error bar, one panel a cell."""
    prepare_matplotlib()
    import matplotlib
    from matplotlib.figure import Figure

    settings, cells = comparison.settings, comparison.cells
    names = [
        textwrap.fill(s.name, _NAME_WIDTH) + ("" if s.is_private else "\n(NOT PRIVATE)")
        for s in settings
    ]
    lines = sum(name.count("\n") + 1.6 for name in names)
    columns = min(_COLUMNS, len(cells))
    rows = math.ceil(len(cells) / columns)
    with matplotlib.rc_context(style()):
        size = (2.2 + 2.8 * columns, rows * (0.9 + 0.21 * lines))
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
        for axis, cell in zip(axes, cells, strict=False):
            for place, setting in enumerate(settings):
                summary = comparison.summaries[setting.name][cell]
                if not summary.n:
                    continue
                face = PALETTE[0] if setting.is_private else "none"
                _bar(axis, summary.mean, place, summary, colour=PALETTE[0], face=face, across=True)
            axis.set_title(cell, fontsize=10, color=INK)
            axis.set_yticks(range(len(settings)), names)
            axis.set_ylim(len(settings) - 0.5, -0.5)
            axis.grid(axis="y", visible=False)
            axis.margins(x=0.12)
            axis.locator_params(axis="x", nbins=4)
            axis.set_xlabel(comparison.metric_name)
        for axis in axes[len(cells) :]:
            axis.set_visible(False)
        figure.supxlabel(_caption(comparison), fontsize=8.5, color=INK)
    return figure


def _caption(comparison: Comparison) -> str:
    """What marks and bars mean, naming only what is there."""
    summaries = [one for cells in comparison.summaries.values() for one in cells.values()]
    said = []
    if any(one.n == 1 and not math.isnan(one.low) for one in summaries):
        said.append(f"bar of a single run: {100 * comparison.confidence:g} % bootstrap interval")
    if any(one.n > 1 for one in summaries):
        said.append("bar of several seeds: mean ± 1 sd")
    if not all(setting.is_private for setting in comparison.settings):
        said.append("hollow mark: NOT PRIVATE")
    return "\n".join(said)


def _bar(
    axis: Any,
    x: float,
    y: float,
    summary: Summary,
    *,
    colour: str,
    face: str,
    across: bool,
    marker: str = "o",
) -> None:
    """A mark with the summary's error bar, across or upright."""
    low, high = summary.reach
    # With few resamples the value itself may lie outside its percentile interval.
    ends = (max(0.0, summary.mean - low), max(0.0, high - summary.mean))
    reach = None if math.isnan(low) else [[ends[0]], [ends[1]]]
    axis.errorbar(
        x,
        y,
        **{("xerr" if across else "yerr"): reach},
        fmt=marker,
        color=colour,
        markerfacecolor=face,
        markersize=6,
        capsize=3,
        linewidth=1.4,
    )


@dataclass(frozen=True)
class FrontierLine:
    """One line of a frontier.

    Attributes:
        name: of the line.
        private: epsilon (finite, > 0) -> figure.
        without: the figure without privacy, if it was measured.
    """

    name: str
    private: dict[float, Summary]
    without: Summary | None


def frontier(
    lines: Sequence[FrontierLine], cell: str, metric_name: str, warning: str = ""
) -> Figure:
    """What privacy costs: the metric against epsilon on a log scale, one line an imputer.

    The level without privacy is a dotted line over the whole width, with a hollow mark and its
    error bar at ``inf``, to the right of all budgets. ``warning`` is put above, say that the
    budgets were not kept in test mode.
    """
    prepare_matplotlib()
    import matplotlib
    from matplotlib.figure import Figure

    budgets = sorted({epsilon for line in lines for epsilon in line.private}) or [1.0]
    # One more step to the right, as wide as the others are on average.
    step = (budgets[-1] / budgets[0]) ** (1 / (len(budgets) - 1)) if len(budgets) > 1 else 3.0
    infinity = budgets[-1] * step
    has_level = any(line.without is not None and line.without.n for line in lines)
    right = infinity if has_level else budgets[-1]
    # Lines are set a little apart, so that error bars at one epsilon do not hide each other.
    apart = 0.014 * max(0.5, math.log(right / budgets[0]))
    with matplotlib.rc_context(style()):
        figure = Figure(figsize=(7.2, 4.5), layout="constrained")
        axis = figure.subplots()
        axis.set_xscale("log")
        for place, line in enumerate(lines):
            shift = math.exp(apart * (place - (len(lines) - 1) / 2))
            _frontier_line(axis, line, place, shift, infinity)
        _frontier_axis(axis, lines, budgets, infinity if has_level else None)
        axis.set_xlim(budgets[0] / step**0.3, right * step**0.3)
        axis.margins(y=0.12)
        axis.set_ylabel(f"{metric_name}, {cell}")
        handles, names = axis.get_legend_handles_labels()
        if handles:
            figure.legend(
                handles, names, loc="outside lower center", ncols=4, frameon=False, fontsize=9
            )
        caption = "\n".join(filter(None, [warning, _frontier_caption(lines, has_level)]))
        figure.suptitle(caption, fontsize=9, color=INK)
    return figure


def _frontier_line(
    axis: Any, line: FrontierLine, place: int, shift: float, infinity: float
) -> None:
    colour, marker = PALETTE[place % len(PALETTE)], MARKERS[place % len(MARKERS)]
    points = [(epsilon * shift, s) for epsilon, s in sorted(line.private.items()) if s.n]
    axis.plot(
        [x for x, _ in points],
        [summary.mean for _, summary in points],
        DASHES[place % len(DASHES)],
        color=colour,
        marker=marker,
        markersize=6,
        linewidth=1.7,
        label=line.name,
    )
    look: dict[str, Any] = {"colour": colour, "marker": marker, "across": False}
    for x, summary in points:
        _bar(axis, x, summary.mean, summary, face=colour, **look)
    if line.without is not None and line.without.n:
        level = line.without
        axis.axhline(level.mean, color=colour, linewidth=1.1, linestyle=(0, (1, 1.5)))
        _bar(axis, infinity * shift, level.mean, level, face="white", **look)


def _frontier_axis(
    axis: Any, lines: Sequence[FrontierLine], budgets: Sequence[float], infinity: float | None
) -> None:
    """Ticks at the budgets, and at ``inf`` beyond a dashed line, where the scale ends."""
    from matplotlib.ticker import NullFormatter, NullLocator

    ticks = {epsilon: f"{epsilon:g}" for epsilon in budgets if any(x.private for x in lines)}
    if infinity is not None:
        ticks[infinity] = "inf\n(NOT PRIVATE)"
        axis.axvline(math.sqrt(budgets[-1] * infinity), color=INK, linewidth=0.7, linestyle="--")
    axis.set_xticks(list(ticks), list(ticks.values()))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel("privacy budget epsilon (log scale; smaller is more private)")


def _frontier_caption(lines: Sequence[FrontierLine], has_level: bool) -> str:
    summaries = [s for line in lines for s in (*line.private.values(), line.without) if s]
    counts = sorted({summary.n for summary in summaries if summary.n})
    if not counts:
        return "no finished run"
    if counts == [1]:
        said = "one seed; bars: bootstrap interval over held-out patients"
    else:
        seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        said = f"means over {seeds} seeds; bars: ± 1 sd"
    return said + ("; dotted: level without privacy" if has_level else "")
