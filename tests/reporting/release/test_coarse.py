"""Coarse numbers: nothing exact can be had back, limits stay limits, and twice is once."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privfin.reporting.release.coarse import (
    above,
    below,
    chance_up,
    coarse_count,
    digits_down,
    digits_nearest,
    digits_up,
    is_hidden,
    nearest,
    places_for,
    power_of_ten_up,
    size_of,
    with_coarse_decimals,
    without,
    without_counts,
)

POSITIVE = st.floats(1e-12, 1e12)


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, 0), (1, "1 to 10"), (10, "1 to 10"), (11, "about 20"), (24, "about 20"),
     (25, "about 30"), (99, "about 100"), (104, "about 100"), (105, "about 110"),
     (994, "about 990"), (1125, "about 1,100"), (123456, "about 120,000")],
)  # fmt: skip
def test_counts(count: int, shown: int | str) -> None:
    assert coarse_count(count) == shown


@given(st.integers(0, 10**7))
def test_a_count_twice_made_coarse_is_the_same(count: int) -> None:
    once = coarse_count(count)
    assert coarse_count(once) == once
    assert size_of(once) == size_of(count)
    assert is_hidden(count) is (1 <= count <= 10)


@given(st.integers(11, 10**6))
def test_a_coarse_count_is_near_and_never_says_which(count: int) -> None:
    shown = size_of(count)
    assert abs(shown - count) <= max(9, 0.05 * count)
    alike = [n for n in range(max(11, count - 20), count + 21) if size_of(n) == shown]
    assert len(alike) >= 10


def test_a_small_part_is_not_the_total_minus_the_others() -> None:
    """For every small part: which other ones fit the same coarse total and the same coarse rest."""
    alike: dict[int | str, list[int]] = {}
    for number in range(11, 400):
        alike.setdefault(coarse_count(number), []).append(number)
    for total in range(12, 260):
        for part in range(1, min(10, total - 11) + 1):
            totals, rests = alike[coarse_count(total)], alike[coarse_count(total - part)]
            possible = {t - r for t in totals for r in rests} & set(range(1, 11))
            assert len(possible) >= 9, (total, part)


@given(POSITIVE, st.integers(1, 3))
def test_limits_are_rounded_to_their_own_side_and_only_once(value: float, digits: int) -> None:
    up, down = digits_up(value, digits), digits_down(value, digits)
    assert down <= value <= up
    assert down <= digits_nearest(value, digits) <= up
    assert up <= value * (1 + 10.0 ** (1 - digits)) * (1 + 1e-12)
    assert digits_up(up, digits) == up
    assert digits_down(down, digits) == down


@given(st.floats(0, 1))
def test_chances_are_rounded_up_and_only_once(value: float) -> None:
    up = chance_up(value)
    assert value <= up <= 1
    assert chance_up(up) == up


@given(st.floats(0, 1), st.floats(0, 1))
def test_chances_keep_their_order(one: float, two: float) -> None:
    assert chance_up(min(one, two)) <= chance_up(max(one, two))


def test_infinity_and_zero_stay() -> None:
    assert digits_up(math.inf) == math.inf
    assert digits_up(0.0) == digits_down(0.0) == power_of_ten_up(0.0) == chance_up(0.0) == 0.0
    assert chance_up(1.0) == 1.0


@given(st.floats(1e-15, 1))
def test_powers_of_ten(value: float) -> None:
    up = power_of_ten_up(value)
    assert value <= up < 10.0000001 * value
    assert power_of_ten_up(up) == up


@given(st.floats(-50, 50), st.integers(1, 3))
def test_grids(value: float, places: int) -> None:
    low, high = below(value, places), above(value, places)
    assert low <= value <= high
    assert below(low, places) == low
    assert above(high, places) == high
    assert nearest(value, places) in (low, high)


@given(st.integers(11, 10**6))
def test_one_patient_moves_a_rate_by_no_more_than_a_step(patients: int) -> None:
    shown = size_of(patients)
    assert 1 / shown <= 10.0 ** -places_for(shown) or places_for(shown) == 1


def test_numbers_in_texts() -> None:
    text = "left out 5 images, 1,125 records and 23 reports of patch16_224; 0 were empty."
    assert without_counts(text) == (
        "left out 1 to 10 images, about 1,100 records and about 20 reports of patch16_224; "
        "0 were empty."
    )
    assert without("at 1,125 patients, 1125 of 3 sites, SHA-256", {1125}) == (
        "at about 1,100 patients, about 1,100 of 3 sites, SHA-256"
    )
    assert without_counts("about 1,125 of 7") == without_counts("about 1,100 of 1 to 10")
    assert without("about 1,125 in 1 to 10", {1125, 10}) == "about 1,100 in 1 to 10"
    assert with_coarse_decimals("(7.9999, 8.88e-06), arXiv:1905.02383, N 8192, 0.0213.") == (
        "(8, 1e-05), arXiv:1905.02383, N 8192, 0.022."
    )
