"""Numbers keep their meaning when they are shortened: bounds stay bounds."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privfin.reporting.blocks_results import Interval
from privfin.reporting.page.wording import (
    at_least,
    at_most,
    interval,
    megabytes,
    moment,
    number,
    percent,
    plain,
)


@given(st.floats(min_value=1e-12, max_value=1e12))
def test_a_bound_is_still_one_after_rounding_and_close(value: float) -> None:
    above, below = float(at_most(value)), float(at_least(value))
    assert below <= value <= above
    assert above == pytest.approx(value, rel=2e-3)
    assert below == pytest.approx(value, rel=2e-3)


def test_rounding_goes_to_the_side_of_the_bound() -> None:
    assert at_most(8.00001) == "8.001"
    assert at_least(7.99999) == "7.999"
    assert (at_most(8.0), at_least(8.0)) == ("8", "8")
    assert (at_most(0.0), at_most(math.inf)) == ("0", "infinite")


@given(st.floats(min_value=0.0, max_value=1.0, exclude_max=True))
def test_less_than_all_is_never_shown_as_all(value: float) -> None:
    shown = percent(value).removesuffix("\u00a0%")
    assert float(shown) < 100.0
    assert float(shown) == pytest.approx(100 * value, rel=6e-3, abs=1e-9)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.021, "2.1"), (0.99966, "99.97"), (1.0, "100"), (0.0, "0"), (0.999, "99.9"), (0.5, "50")],
)
def test_percent(value: float, shown: str) -> None:
    assert percent(value) == f"{shown}\u00a0%"


def test_other_words() -> None:
    assert number(1e-5) == "1e-5"
    assert megabytes(14328774) == "14,328,774 bytes (14.3 MB)"
    assert moment("2026-01-02T05:04:05+02:00") == "2026-01-02 03:04 UTC"
    assert moment("some day") == "some day"
    assert interval(Interval(value=None)) == "not stated"
    assert interval(Interval(value=0.5)) == "0.500"
    assert plain("cap_epsilon", None) == "no cap"
    assert plain("public_seed", 12345) == "12345"
    assert plain("patients", 12345) == "12,345"
    assert plain("modalities", ()) == "none"
