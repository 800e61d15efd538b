"""Clopper–Pearson limits: against SciPy's, and their coverage summed exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from attacks.limits import clopper_pearson, lower_limit, upper_limit


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 500), st.data(), st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_agrees_with_scipy(trials: int, data: st.DataObject, confidence: float) -> None:
    successes = data.draw(st.integers(0, trials))
    expected = binomtest(successes, trials).proportion_ci(confidence, method="exact")
    found = clopper_pearson(successes, trials, confidence)
    assert found == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_known_values() -> None:
    # No success in n: 1 - error^(1/n); all: the limit is 1.
    assert float(upper_limit(0, 100, 0.025)) == pytest.approx(1 - 0.025**0.01, rel=1e-12)
    assert float(upper_limit(100, 100, 0.025)) == 1.0
    assert float(lower_limit(100, 100, 0.025)) == pytest.approx(0.025**0.01, rel=1e-12)
    assert float(lower_limit(0, 100, 0.025)) == 0.0
    assert clopper_pearson(0, 0, 0.95) == (0.0, 1.0)


def test_small_limits_keep_their_digits() -> None:
    error, trials = 1e-9, 10**9
    expected = -math.expm1(math.log(error) / trials)
    assert float(upper_limit(0, trials, error)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("trials", [1, 7, 60])
@pytest.mark.parametrize("error", [0.2, 0.025])
def test_each_limit_fails_in_at_most_its_error(trials: int, error: float) -> None:
    """Summed over all outcomes, so there is no chance in it."""
    counts = np.arange(trials + 1)
    above, below = upper_limit(counts, trials, error), lower_limit(counts, trials, error)
    for chance in np.linspace(0.001, 0.999, 199):
        weights = binom.pmf(counts, trials, chance)
        assert weights[above < chance].sum() <= error + 1e-12
        assert weights[below > chance].sum() <= error + 1e-12


@pytest.mark.parametrize(
    ("successes", "trials", "confidence", "said"),
    [
        (-1, 5, 0.95, "successes"),
        (6, 5, 0.95, "at most trials"),
        (1.5, 5, 0.95, "whole"),
        (True, 5, 0.95, "whole"),
        (1, 5, 0.0, "confidence"),
        (1, 5, 1.0, "confidence"),
        (1, 5, math.nan, "confidence"),
    ],
)
def test_refused(successes: int, trials: int, confidence: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        clopper_pearson(successes, trials, confidence)
