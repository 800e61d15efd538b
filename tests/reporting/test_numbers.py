"""Numbers in sentences: rounded to the side that promises less, and readable."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privfin.reporting.numbers import (
    DOWN,
    NEAREST,
    UP,
    at_least,
    at_most,
    counted,
    data_size,
    delta_text,
    exact_size,
    listed,
    number_of,
    percent,
    percent_at_most,
    significant,
)


@given(st.floats(-1e6, 1e6), st.integers(0, 4))
def test_limits_are_on_their_side_and_near(value: float, places: int) -> None:
    low, high = Decimal(at_least(value, places)), Decimal(at_most(value, places))
    assert low <= Decimal(repr(value)) <= high
    assert high - low <= Decimal(1).scaleb(-places)


@given(st.floats(min_value=1e-12, max_value=1e12), st.integers(min_value=1, max_value=6))
def test_significant_digits_keep_bounds_true_and_are_close(value: float, digits: int) -> None:
    up, down, near = (float(significant(value, digits, way)) for way in (UP, DOWN, NEAREST))
    assert down <= value <= up
    step = 10.0 ** (math.floor(math.log10(value)) - digits + 1)
    assert up - down <= 1.01 * step * 10  # a power of ten may lie between
    assert min(up - value, value - down) == pytest.approx(abs(near - value), abs=1e-9 * value)


@given(st.floats(min_value=0.0, max_value=1.0, exclude_max=True), st.sampled_from([UP, NEAREST]))
def test_less_than_all_is_never_shown_as_all(share: float, rounding: str) -> None:
    shown = percent(share, rounding).removesuffix(" %")
    assert Decimal(shown) < 100
    assert float(shown) == pytest.approx(100 * share, rel=1.01e-2, abs=1e-9)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.021, "2.1"), (0.0211, "2.11"), (0.99966, "99.97"), (1.0, "100"), (0.0, "0"),
     (0.999, "99.9"), (0.5, "50"), (0.95, "95"), (0.0001, "0.01")],
)  # fmt: skip
def test_percent(value: float, shown: str) -> None:
    assert percent(value) == f"{shown} %"


@pytest.mark.parametrize(
    ("value", "rounding", "text"),
    [
        (7.9999, UP, "8"),
        (8.0001, UP, "8.01"),
        (8.0001, DOWN, "8"),
        (0.1, UP, "0.1"),
        (0.0, UP, "0"),
        (math.inf, UP, "infinite"),
        (1e-5, NEAREST, "1e-05"),
    ],
)
def test_significant_digits(value: float, rounding: str, text: str) -> None:
    assert significant(value, 3, rounding) == text


@given(st.floats(0, 1))
def test_a_share_at_most_is_not_below_it(share: float) -> None:
    assert Decimal(percent_at_most(share).split()[0]) >= Decimal(repr(share)) * 100 - Decimal(
        "1e-9"
    )


def test_words() -> None:
    assert at_most(7.99993842) == "8.00"
    assert at_most(8.0) == "8.00"
    assert at_most(math.inf) == at_least(math.inf) == "infinite"
    assert at_most(-math.inf) == "-infinite"
    assert (at_most(8.00001), at_least(7.99999)) == ("8.01", "7.99")
    assert delta_text(1e-5) == "1e-05"
    assert delta_text(1.00001e-6) == "1.001e-06"
    assert at_least(-1.504) == "-1.51"
    assert percent_at_most(0.24201) == "24.3 %"
    assert counted(1125) == "1,125"
    assert counted("1 to 10") == "1 to 10"
    assert number_of(1, "patient") == "1 patient"
    assert number_of("about 1,100", "patient") == "about 1,100 patients"
    assert number_of(2, "study", "studies") == "2 studies"
    assert data_size(999) == "999 bytes"
    assert data_size(14328774) == "14.3 MB"
    assert exact_size(999) == "999 bytes"
    assert exact_size(14328774) == "14,328,774 bytes (14.3 MB)"
    assert data_size(2 * 10**9) == "2.0 GB"
    assert [listed(["a", "b", "c"][:i]) for i in (1, 2, 3)] == ["a", "a and b", "a, b and c"]
