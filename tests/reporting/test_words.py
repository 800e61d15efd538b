"""Numbers in sentences: rounded to the side that promises less, and readable."""

from __future__ import annotations

import math
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from privfin.reporting.words import (
    at_least,
    at_most,
    counted,
    data_size,
    listed,
    number_of,
    percent,
    percent_at_most,
)


@given(st.floats(-1e6, 1e6), st.integers(0, 4))
def test_limits_are_on_their_side_and_near(value: float, places: int) -> None:
    low, high = Decimal(at_least(value, places)), Decimal(at_most(value, places))
    assert low <= Decimal(repr(value)) <= high
    assert high - low <= Decimal(1).scaleb(-places)


@given(st.floats(0, 1))
def test_a_share_at_most_is_not_below_it(share: float) -> None:
    assert Decimal(percent_at_most(share).split()[0]) >= Decimal(repr(share)) * 100 - Decimal(
        "1e-9"
    )


def test_words() -> None:
    assert at_most(7.99993842) == "8.00"
    assert at_most(8.0) == "8.00"
    assert at_most(math.inf) == at_least(math.inf) == "inf"
    assert at_least(-1.504) == "-1.51"
    assert percent(0.0211) == "2.1 %"
    assert percent(0.95, 0) == "95 %"
    assert percent_at_most(0.24201) == "24.3 %"
    assert counted(1125) == "1,125"
    assert counted("1 to 10") == "1 to 10"
    assert number_of(1, "patient") == "1 patient"
    assert number_of("about 1,100", "patient") == "about 1,100 patients"
    assert number_of(2, "study", "studies") == "2 studies"
    assert data_size(999) == "999 bytes"
    assert data_size(14328774) == "14.3 MB"
    assert data_size(2 * 10**9) == "2.0 GB"
    assert [listed(["a", "b", "c"][:i]) for i in (1, 2, 3)] == ["a", "a and b", "a, b and c"]
