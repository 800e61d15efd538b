"""Figures of a comparison as short texts, the same in the terminal and on a page."""

from __future__ import annotations

import math

from privfin.comparison.results import Summary
from privfin.evaluation.paired import PairedResult


def number(value: float, *, sign: bool = False) -> str:
    """Three decimals, or ``-`` for what is not known."""
    if math.isnan(value):
        return "-"
    return f"{value:+.3f}" if sign else f"{value:.3f}"


def spread(low: float, high: float, *, sign: bool = False) -> str:
    """Two ends, or ``-``."""
    if math.isnan(low) or math.isnan(high):
        return "-"
    return f"{number(low, sign=sign)} to {number(high, sign=sign)}"


def summary_words(summary: Summary) -> tuple[str, str, str]:
    """A setting's figure, its sd or interval, and the number of runs."""
    if summary.n > 1:
        return number(summary.mean), f"± {summary.sd:.3f} sd", f"{summary.n}"
    return number(summary.mean), spread(summary.low, summary.high), f"{summary.n}"


def paired_words(result: PairedResult) -> tuple[str, str, str, str]:
    """A paired difference, its t interval, the permutation p-value and n."""
    p_value = "-" if math.isnan(result.p_value) else f"{result.p_value:.3g}"
    return (
        number(result.mean, sign=True),
        spread(result.low, result.high, sign=True),
        p_value if result.is_exact else f"{p_value} (drawn)",
        f"{result.n}",
    )
