"""Calibration against scikit-learn, a plain loop and cases with a known answer."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss

from privfin.evaluation.calibration import brier_score, expected_calibration_error

# Edges of bins are frequent, where < and <= differ.
CASES = st.lists(
    st.tuples(
        st.one_of(st.integers(0, 10).map(lambda k: k / 10), st.floats(0, 1)), st.integers(0, 1)
    ),
    min_size=1,
    max_size=60,
)


@settings(deadline=None, max_examples=60)
@given(CASES, st.integers(1, 12))
def test_the_error_agrees_with_a_plain_loop(case: list[tuple[float, int]], bins: int) -> None:
    expected = 0.0
    for k in range(bins):
        low, high = k / bins, (k + 1) / bins
        inside = [(p, y) for p, y in case if low <= p < high or (k == bins - 1 and p == 1.0)]
        if inside:
            gap = sum(y for _, y in inside) / len(inside) - sum(p for p, _ in inside) / len(inside)
            expected += len(inside) / len(case) * abs(gap)
    found = expected_calibration_error(*zip(*case, strict=True), bins)
    assert found == pytest.approx(expected, abs=1e-12)
    assert 0.0 <= found <= 1.0


@settings(deadline=None, max_examples=40)
@given(CASES)
def test_brier_agrees_with_scikit_learn(case: list[tuple[float, int]]) -> None:
    chances, labels = zip(*case, strict=True)
    if len(set(labels)) == 2:
        assert brier_score(chances, labels) == pytest.approx(brier_score_loss(labels, chances))


def test_calibrated_scores_have_no_error_and_shifted_ones_have_the_shift() -> None:
    # In each tenth, exactly the stated share is positive.
    chances = np.repeat(np.arange(10) / 10 + 0.05, 20)
    labels = np.concatenate([np.arange(20) < round(20 * (k / 10 + 0.05)) for k in range(10)])
    assert expected_calibration_error(chances, labels, 10) == pytest.approx(0.0, abs=1e-12)
    # 0.04 too high stays in the same bin, so that every bin is off by it.
    assert expected_calibration_error(chances + 0.04, labels, 10) == pytest.approx(0.04)
    # Ranks, and so AUROC, do not change by this; calibration does.
    assert expected_calibration_error(chances / 100, labels, 10) > 0.4


def test_known_values() -> None:
    assert brier_score([0.5, 0.5], [0, 1]) == 0.25
    assert brier_score([0.0, 1.0], [0, 1]) == 0.0
    assert brier_score([1.0], [0]) == 1.0
    assert expected_calibration_error([1.0, 0.0], [0, 1], 10) == 1.0
    assert math.isnan(brier_score([], []))
    assert math.isnan(expected_calibration_error([], [], 10))


@pytest.mark.parametrize(
    ("chances", "labels", "said"),
    [
        ([1.1], [1], "lie in"),
        ([-0.1], [1], "lie in"),
        ([math.nan], [1], "lie in"),
        ([0.5], [math.nan], "0 or 1"),
        ([0.5, 0.5], [1], "must be"),
    ],
)
def test_refused(chances: list[float], labels: list[float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        brier_score(chances, labels)
    with pytest.raises(ValueError, match=said):
        expected_calibration_error(chances, labels, 10)
