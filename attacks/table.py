"""A table of what attacks achieved, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from attacks.measure import Measured


def text_table(measured: Sequence[Measured]) -> str:
    """AUC with its interval, and TPR at 1 %, 0.1 % and 0.01 % FPR with limits, 79 columns wide.

    A rate that the sample is too small for is marked ``*``: it is the TPR at no false alarm at all.
    """
    lines = [f"{'attack':<17}{'AUC':<20}" + "".join(f"{f'TPR@{r}':<14}" for r in _RATES)]
    for one in measured:
        area = f"{one.area.area:.3f} ({one.area.low:.3f}-{one.area.high:.3f})"
        cells = [
            f"{100 * p.tpr:.0f} ({100 * p.tpr_limits[0]:.0f}-{100 * p.tpr_limits[1]:.0f})%"
            + ("" if p.is_resolved else "*")
            for p in one.points
        ]
        lines.append(f"{one.attempt.attack:<17}{area:<20}" + "".join(f"{c:<14}" for c in cells))
    if measured:
        lines.append(f"smallest FPR that is resolved: {100 / measured[0].curve.nonmembers:.2g} %")
    return "\n".join(line.rstrip() for line in lines)


_RATES = ("1%", "0.1%", "0.01%")
