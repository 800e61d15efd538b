"""Log-log ROC curves of an audit: what happens at low false-positive rates is what counts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

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
    """Draw the attacks on all patients, one line each, and the line of guessing.

    Curves start at the smallest false-positive rate that the sample resolves.

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

    smallest = 1.0 / max(one.curve.nonmembers for one in shown)
    with matplotlib.rc_context(style()):
        figure = Figure(figsize=(6.4, 5.2))
        axes = figure.add_subplot()
        axes.plot([smallest, 1], [smallest, 1], color=INK, linewidth=1, linestyle=":")
        axes.annotate("guessing", (smallest * 1.5, smallest * 1.7), rotation=38, fontsize=8)
        for number, one in enumerate(shown):
            keep = one.curve.fpr >= smallest
            axes.step(
                one.curve.fpr[keep],
                one.curve.tpr[keep].clip(min=smallest / 10),
                where="post",
                color=PALETTE[number % len(PALETTE)],
                linestyle=DASHES[number // len(PALETTE) % len(DASHES)],
                linewidth=1.6,
                label=f"{one.attempt.attack} ({one.attempt.observer}), AUC {one.area.area:.2f}",
            )
        axes.set(
            xscale="log", yscale="log", xlim=(smallest, 1), ylim=(smallest, 1.05),
            xlabel="false-positive rate", ylabel="true-positive rate", title=title,
        )  # fmt: skip
        axes.legend(fontsize=7, loc="lower right", framealpha=0.9)
        for path in paths:
            save_figure(figure, path)
