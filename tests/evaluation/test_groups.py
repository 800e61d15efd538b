"""Every record is in one group of each kind, and names say who is in it."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from privfin.evaluation.groups import NOT_STATED, age_band, group_names, in_order

BANDS = (40, 60, 80)


def test_bands_start_at_their_age() -> None:
    ages = [0, 39.9, 40, 59, 59.9, 60, 79, 80, 104, math.nan]
    assert [age_band(age, BANDS) for age in ages] == [
        *["under 40"] * 2,
        *["40 to 59"] * 3,
        *["60 to 79"] * 2,
        *["80 and over"] * 2,
        NOT_STATED,
    ]


@given(
    st.lists(st.integers(1, 110), max_size=5),
    st.lists(st.one_of(st.floats(0, 120), st.just(math.nan)), min_size=2, max_size=30),
)
def test_older_is_never_in_an_earlier_band(bands: list[int], ages: list[float]) -> None:
    names = [age_band(age, bands) for age in ages]
    order = in_order("age", names, bands)
    assert sorted(order) == sorted(set(names))
    known = sorted((age, order.index(n)) for age, n in zip(ages, names, strict=True) if age == age)
    assert [place for _, place in known] == sorted(place for _, place in known)
    if NOT_STATED in order:
        assert order[-1] == NOT_STATED


def test_what_makes_no_groups_is_left_out() -> None:
    nothing = ["", ""], [math.nan, math.nan]
    assert dict(group_names(*nothing, None, BANDS)) == {}
    assert dict(group_names([], [], None, BANDS)) == {}
    assert dict(group_names(["F", "F"], [50, 51], ["a", "a"], BANDS)) == {}
    found = dict(group_names(["F", "M", "", "X"], [50, 30, 1, 2], ["a", "b", "", "a"], BANDS))
    assert found == {
        "sex": ["female", "male", NOT_STATED, NOT_STATED],
        "age": ["40 to 59", "under 40", "under 40", "under 40"],
        "source": ["a", "b", NOT_STATED, "a"],
    }
    assert in_order("sex", found["sex"], BANDS) == ["female", "male", NOT_STATED]
