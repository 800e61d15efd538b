"""Marks and error bars of a comparison."""

from __future__ import annotations

import math

import pytest
from matplotlib.figure import Figure

from privfin.comparison.plots import _bar
from privfin.comparison.results import Summary


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.8), (0.95, 0.99), (0.6, 0.99), (math.nan,) * 2])
def test_a_value_outside_its_interval_is_drawn_all_the_same(low: float, high: float) -> None:
    """Few resamples give percentile intervals beside the value; a plot may not fail on them."""
    axis = Figure().add_subplot()
    _bar(axis, 1.0, 0.9, Summary(1, 0.9, math.nan, low, high), colour="k", face="k", across=False)
    assert len(axis.containers) == 1
