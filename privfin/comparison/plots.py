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

_NAME_WIDTH = 30
_COLUMNS = 3
_LEVEL = "NOT PRIVATE (epsilon inf)"


def forest(comparison: Comparison) -> Figure:
    """Each setting's figure with its error bar, one panel a cell."""
    prepare_matplotlib()
    import matplotlib
    from matplotlib.figure import Figure

    settings, cells = comparison.settings, comparison.cells
    names = [
        textwrap.fill(s.name if s.is_private else f"{s.name} (NOT PRIVATE)", _NAME_WIDTH)
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
    reach = None if math.isnan(low) else [[summary.mean - low], [high - summary.mean]]
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

    The level without privacy is a horizontal line, in a band of one sd when there are seeds.
    ``warning`` is put above, say that the budgets were not kept in test mode.
    """
    prepare_matplotlib()
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter, NullLocator

    budgets = sorted({epsilon for line in lines for epsilon in line.private})
    with matplotlib.rc_context(style()):
        figure = Figure(figsize=(7.2, 4.5), layout="constrained")
        axis = figure.subplots()
        # Lines are set a little apart, so that error bars at one epsilon do not hide each other.
        apart = 0.012 * max(1.0, math.log(budgets[-1] / budgets[0])) if budgets else 0.0
        for place, line in enumerate(lines):
            colour = PALETTE[place % len(PALETTE)]
            dash = DASHES[place % len(DASHES)]
            shift = math.exp(apart * (place - (len(lines) - 1) / 2))
            points = [(e, s) for e, s in sorted(line.private.items()) if s.n]
            if points:
                axis.plot(
                    [epsilon * shift for epsilon, _ in points],
                    [summary.mean for _, summary in points],
                    dash,
                    color=colour,
                    marker=MARKERS[place % len(MARKERS)],
                    markersize=6,
                    linewidth=1.7,
                    label=line.name,
                )
            for epsilon, summary in points:
                _bar(
                    axis,
                    epsilon * shift,
                    summary.mean,
                    summary,
                    colour=colour,
                    face=colour,
                    across=False,
                    marker=MARKERS[place % len(MARKERS)],
                )
            if line.without is not None and line.without.n:
                low, high = line.without.reach
                if not math.isnan(low):
                    axis.axhspan(low, high, color=colour, alpha=0.13, linewidth=0)
                axis.axhline(
                    line.without.mean,
                    color=colour,
                    linewidth=1.1,
                    linestyle=(0, (1, 1.5)),
                    label=f"{line.name}, {_LEVEL}",
                )
        if budgets:
            axis.set_xscale("log")
            axis.set_xticks(budgets, [f"{epsilon:g}" for epsilon in budgets])
            axis.xaxis.set_minor_locator(NullLocator())
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.set_xlim(budgets[0] / 1.35, budgets[-1] * 1.35)
            axis.set_xlabel("privacy budget epsilon (log scale; smaller is more private)")
        else:
            axis.set_xticks([])
            axis.set_xlabel("no private run in this sweep")
        axis.margins(y=0.12)
        axis.set_ylabel(f"{metric_name}, {cell}")
        # Lines first, levels after them: in two columns each line has its level beside it.
        drawn = sorted(zip(*axis.get_legend_handles_labels(), strict=True), key=_is_level)
        if drawn:
            figure.legend(
                *zip(*drawn, strict=True),
                loc="outside lower center",
                ncols=2 if any(map(_is_level, drawn)) else 3,
                frameon=False,
                fontsize=9,
            )
        caption = "\n".join(filter(None, [warning, _frontier_caption(lines)]))
        figure.suptitle(caption, fontsize=9, color=INK)
    return figure


def _is_level(drawn: tuple[Any, str]) -> bool:
    return drawn[1].endswith(_LEVEL)


def _frontier_caption(lines: Sequence[FrontierLine]) -> str:
    summaries = [s for line in lines for s in (*line.private.values(), line.without) if s]
    counts = sorted({summary.n for summary in summaries if summary.n})
    if counts == [1]:
        return "one seed; bars and bands: bootstrap interval over held-out patients"
    if not counts:
        return "no finished run"
    seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"means over {seeds} seeds; bars and bands: ± 1 sd"
