"""A scale keeps the order of what it places."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privfin.reporting.page.svg import Scale


@given(low=st.floats(-10, 10), span=st.floats(0.01, 100), inside=st.floats(0, 1), log=st.booleans())
def test_a_scale_keeps_order_and_its_ticks_are_inside(
    low: float, span: float, inside: float, log: bool
) -> None:
    first = 10 ** (low / 3) if log else low
    scale = Scale(first, first + span, 0.0, 100.0, is_log=log)
    assert -1e-9 <= scale(first + span * inside) <= 100.0 + 1e-9
    assert scale(first - 1) == pytest.approx(0.0)
    assert scale(first + span + 1) == pytest.approx(100.0)
    ticks = scale.ticks()
    assert all(a < b for a, b in itertools.pairwise(ticks))
    assert all(first - 1e-6 <= tick <= first + span + 1e-6 for tick in ticks)
    assert log or 2 <= len(ticks) <= 12
