"""Log-log ROC curves of an audit: what happens at low false-positive rates is what counts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attacks.measure import Measured
from privfin.comparison.drawing import (
    DASHES,
    INK,
    PALETTE,
    prepare_matplotlib,
    save_figure,
    style,
)


def draw_roc(measured: Sequence[Measured], paths: Sequence[Path], title: str) -> None:
    """Draw the attacks on all patients: a panel an observer, a line an attack.

    Curves start at the smallest false-positive rate that the sample resolves; the dotted line is
    guessing.

    Args:
        measured: the attacks; those on strata are left out.
        paths: where to write it, as PNG or SVG by their names' ends.
        title: above the picture.

    Raises:
        UserInputError: a file cannot be written.
    """
    shown = [one for one in measured if one.attempt.stratum == "all"]
    if not shown:
        return
    prepare_matplotlib()
    import matplotlib
    from matplotlib.figure import Figure

    observers = list(dict.fromkeys(one.attempt.observer for one in shown))
    columns = min(2, len(observers))
    rows = -(-len(observers) // columns)
    with matplotlib.rc_context(style()):
        figure = Figure(figsize=(4.6 * columns, 5.4 * rows), layout="constrained")
        figure.suptitle(title)
        for number, observer in enumerate(observers):
            axes = figure.add_subplot(rows, columns, number + 1)
            _panel(axes, [one for one in shown if one.attempt.observer == observer], observer)
        for path in paths:
            save_figure(figure, path)


def _panel(axes: Any, shown: Sequence[Measured], observer: str) -> None:
    from matplotlib.ticker import FuncFormatter

    smallest = 1.0 / max(one.curve.nonmembers for one in shown)
    axes.plot([smallest, 1], [smallest, 1], color=INK, linewidth=1, linestyle=":")
    for number, one in enumerate(shown):
        keep = one.curve.fpr >= smallest
        axes.step(
            one.curve.fpr[keep],
            one.curve.tpr[keep].clip(min=smallest / 10),
            where="post",
            color=PALETTE[number % len(PALETTE)],
            linestyle=DASHES[number // len(PALETTE) % len(DASHES)],
            linewidth=1.6,
            label=f"{one.attempt.attack}, AUC {one.area.area:.2f}",
        )
    axes.set(
        xscale="log", yscale="log", xlim=(smallest, 1), ylim=(smallest, 1.05),
        xlabel="false-positive rate", ylabel="true-positive rate", title=f"Seen by: {observer}",
    )  # fmt: skip
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, place: f"{100 * value:g} %"))
    axes.legend(fontsize=7, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.14), frameon=False)
