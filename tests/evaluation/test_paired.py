"""Paired differences against SciPy, and what too few pairs cannot say."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from privfin.evaluation.paired import compare_pairs

PAIRS = st.lists(
    st.tuples(st.integers(-8, 8).map(lambda k: k / 4), st.floats(-2, 2)), min_size=2, max_size=9
)


@settings(deadline=None, max_examples=40)
@given(PAIRS)
def test_the_p_value_is_the_share_of_sign_flips(pairs: list[tuple[float, float]]) -> None:
    first, second = (np.array(part) for part in zip(*pairs, strict=True))
    difference = second - first
    seen = abs(difference.sum()) - 1e-9 * np.abs(difference).sum()
    flips = [
        abs(np.dot(signs, difference)) >= seen
        for signs in itertools.product((1, -1), repeat=difference.size)
    ]
    found = compare_pairs(first, second)
    assert found.p_value == pytest.approx(np.mean(flips))
    assert found.is_exact
    assert found.smallest_p <= found.p_value <= 1.0


def test_agrees_with_scipy() -> None:
    random = np.random.default_rng(5)
    first = random.normal(size=8)
    second = first + 0.4 + random.normal(size=8)
    found = compare_pairs(first, second, confidence=0.9)
    test = stats.ttest_rel(second, first)
    interval = test.confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.mean == pytest.approx(np.mean(second - first))
    assert found.sd == pytest.approx(np.std(second - first, ddof=1))
    permuted = stats.permutation_test(
        (second, first),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    )
    assert found.p_value == pytest.approx(permuted.pvalue)


def test_drawn_flips_come_close_to_all_of_them() -> None:
    random = np.random.default_rng(6)
    difference = random.normal(0.3, 1.0, size=18)
    found = compare_pairs(np.zeros(18), difference)
    sums = np.zeros(1)
    for one in np.abs(difference):
        sums = np.concatenate([sums + one, sums - one])
    exact = (np.abs(sums) >= abs(difference.sum()) - 1e-9).mean()
    assert not found.is_exact
    # The seed is fixed; the standard error of the share is below 0.0016.
    assert found.p_value == pytest.approx(exact, abs=0.01)


def test_swapping_turns_the_sign_only() -> None:
    one, other = [0.1, 0.5, 0.3, 0.9], [0.4, 0.2, 0.6, 0.7]
    there, back = compare_pairs(one, other), compare_pairs(other, one)
    assert there.mean == -back.mean
    assert (there.low, there.high) == (-back.high, -back.low)
    assert there.p_value == back.p_value


def test_few_pairs_are_said_to_be_few() -> None:
    assert "no shared seed" in compare_pairs([], []).caution
    one = compare_pairs([0.5], [0.9])
    assert (one.p_value, one.smallest_p) == (1.0, 1.0)
    assert math.isnan(one.low)
    assert "nothing can be concluded" in one.caution
    five = compare_pairs([0.0] * 5, [1.0, 1.1, 1.2, 1.3, 1.4])
    assert five.p_value == five.smallest_p == 2 / 2**5
    assert "too few" in five.caution
    assert "0.0625" in five.caution
    assert compare_pairs([0.0] * 6, [1.0, 1.1, 1.2, 1.3, 1.4, 1.5]).caution == ""


def test_no_difference_is_no_evidence() -> None:
    same = compare_pairs([0.5] * 7, [0.5] * 7)
    assert same.p_value == 1.0
    assert (same.low, same.high) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("first", "second", "confidence"),
    [([1.0], [1.0, 2.0], 0.95), ([math.nan], [1.0], 0.95), ([1.0], [1.0], 1.0)],
)
def test_refused(first: list[float], second: list[float], confidence: float) -> None:
    with pytest.raises(ValueError, match=r"pairs|confidence"):
        compare_pairs(first, second, confidence)
