"""Two-rate and Gaussian bounds: reference values, exact coverage, and what must break it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri
from scipy.stats import beta, binom, norm

from attacks.bounds import gaussian_epsilon, gdp_epsilon, two_rate_epsilon, two_rate_size
from attacks.limits import upper_limit
from attacks.two_rates import gdp_mus, two_rate_epsilons

COUNTS = st.integers(0, 400)
DELTAS = st.sampled_from([1e-10, 1e-5, 1e-2])


def test_reference_values() -> None:
    """Two public audit libraries agree on these."""
    assert two_rate_epsilon(950, 50, 50, 950, 1e-5).epsilon == pytest.approx(2.659741, abs=1e-6)
    perfect = two_rate_epsilon(500, 0, 0, 500, 0.0)
    assert perfect.epsilon == perfect.ceiling == pytest.approx(4.905594, abs=1e-6)
    assert two_rate_epsilon(900, 100, 1, 999, 0).ceiling == pytest.approx(5.600588, abs=1e-6)
    found = gdp_epsilon(950, 50, 50, 950, 1e-5)
    assert found.mu == pytest.approx(3.022059, abs=1e-6)
    assert found.epsilon == pytest.approx(16.8345, abs=1e-4)
    assert gaussian_epsilon(1.0, 1e-5) == pytest.approx(4.377178, abs=1e-6)


@settings(deadline=None, max_examples=60)
@given(COUNTS, COUNTS, COUNTS, COUNTS, DELTAS, st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_two_rate_by_hand(tp: int, fn: int, fp: int, tn: int, delta: float, level: float) -> None:
    """Straight from the formula, with SciPy's Beta quantiles."""
    half = (1 - level) / 2
    missed = float(beta.ppf(1 - half, fn + 1, tp)) if tp else 1.0
    alarms = float(beta.ppf(1 - half, fp + 1, tn)) if tn else 1.0
    options = [0.0]
    for one, other in ((missed, alarms), (alarms, missed)):
        if 1 - delta - one > 0:
            options.append(math.log((1 - delta - one) / other))
    assert two_rate_epsilon(tp, fn, fp, tn, delta, level).epsilon == pytest.approx(
        max(options), abs=1e-9
    )
    mu = max(0.0, float(norm.isf(alarms) - norm.ppf(missed)))
    found = gdp_epsilon(tp, fn, fp, tn, delta, level)
    assert found.mu == pytest.approx(mu, abs=1e-9)
    if found.epsilon:
        # δ at the ε returned is the δ asked for, by the formula without logarithms
        epsilon, mu = found.epsilon, float(found.mu or 0.0)
        value = ndtr(mu / 2 - epsilon / mu) - math.exp(epsilon) * ndtr(-mu / 2 - epsilon / mu)
        assert value == pytest.approx(delta, rel=1e-4)


@settings(deadline=None, max_examples=60)
@given(COUNTS, COUNTS, COUNTS, COUNTS, DELTAS)
def test_monotone_and_below_the_ceiling(tp: int, fn: int, fp: int, tn: int, delta: float) -> None:
    for bound in (two_rate_epsilon, gdp_epsilon):
        found = bound(tp, fn, fp, tn, delta, 0.95)
        assert 0.0 <= found.epsilon <= found.ceiling
        assert bound(tp + fn, 0, 0, fp + tn, delta, 0.95).epsilon == found.ceiling
        assert bound(tp, fn, fp, tn, delta, 0.99).epsilon <= found.epsilon
        assert bound(tp, fn, fp, tn, min(0.9, 3 * delta), 0.95).epsilon <= found.epsilon
        if fn:
            assert bound(tp + 1, fn - 1, fp, tn, delta, 0.95).epsilon >= found.epsilon
        if fp:
            assert bound(tp, fn, fp - 1, tn + 1, delta, 0.95).epsilon >= found.epsilon
        # Members and non-members exchanged: the same test seen from the other side.
        assert bound(tn, fp, fn, tp, delta, 0.95).epsilon == pytest.approx(found.epsilon)


@settings(deadline=None, max_examples=60)
@given(st.floats(0.01, 20), st.floats(1e-12, 0.5))
def test_gaussian_epsilon_grows(mu: float, delta: float) -> None:
    found = gaussian_epsilon(mu, delta)
    assert gaussian_epsilon(mu * 1.01, delta) >= found
    assert gaussian_epsilon(mu, delta * 1.01) <= found
    assert gaussian_epsilon(0.0, delta) == 0.0


def failure_rate(bounds: np.ndarray, truth: float, fnr: float, fpr: float) -> float:
    """How often a bound passes the truth, summed over every outcome of a test of n a side."""
    n = bounds.shape[0] - 1
    misses, alarms = (binom.pmf(np.arange(n + 1), n, rate) for rate in (fnr, fpr))
    return float(misses @ (bounds > truth + 1e-9) @ alarms)


def every_outcome(n: int) -> tuple[np.ndarray, np.ndarray]:
    fn, fp = np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij")
    return fn.ravel(), fp.ravel()


@pytest.mark.parametrize("n", [20, 150])
@pytest.mark.parametrize("mu", [0.0, 0.5, 1.0, 3.0])
def test_coverage_on_a_gaussian(n: int, mu: float) -> None:
    """Over thresholds from strict to lax no bound fails in more than 5 %: exact, no simulation."""
    fn, fp = every_outcome(n)
    mus = gdp_mus(fn, n, fp, n, 0.025).reshape(n + 1, n + 1)
    plain = two_rate_epsilons(fn, n, fp, n, 1e-5, 0.025).reshape(n + 1, n + 1)
    for threshold in np.linspace(-2, 5, 29):
        fnr, fpr = float(ndtr(threshold - mu)), float(ndtr(-threshold))
        assert failure_rate(mus, mu, fnr, fpr) <= 0.05
        assert failure_rate(plain, gaussian_epsilon(mu, 1e-5), fnr, fpr) <= 0.05


@pytest.mark.parametrize("n", [20, 150])
@pytest.mark.parametrize("epsilon", [0.0, 0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("delta", [0.0, 0.05])
def test_coverage_on_randomised_response(n: int, epsilon: float, delta: float) -> None:
    """With probability δ the truth is told; else it is told with odds e^ε."""
    fn, fp = every_outcome(n)
    bounds = two_rate_epsilons(fn, n, fp, n, delta, 0.025).reshape(n + 1, n + 1)
    lie = (1 - delta) / (1 + math.exp(epsilon))
    # The edge of what (ε, δ) allows, so that δ left out would be seen.
    assert failure_rate(bounds, epsilon, lie, lie) <= 0.05
    assert failure_rate(bounds, epsilon, 1 - lie, 1 - lie) <= 0.05


def test_delta_left_out_is_caught() -> None:
    fn, fp = every_outcome(400)
    lie = 0.5 * (1 - 0.2)
    broken = two_rate_epsilons(fn, 400, fp, 400, 0.0, 0.025).reshape(401, 401)
    assert failure_rate(broken, 0.0, lie, lie) > 0.9


def test_absolute_value_of_mu_is_caught() -> None:
    """The bound is one-sided: a test worse than chance gives 0, not its mirror image."""
    assert gdp_epsilon(1, 99, 99, 1, 1e-5).epsilon == 0.0
    fn, fp = every_outcome(60)
    broken = np.abs(-ndtri(upper_limit(fp, 60, 0.025)) - ndtri(upper_limit(fn, 60, 0.025)))
    assert failure_rate(broken.reshape(61, 61), 0.0, 0.5, 0.5) > 0.9


def test_point_estimates_are_caught() -> None:
    """The plain rates in place of their limits pass the truth about half of the time."""
    fn, fp = every_outcome(150)
    with np.errstate(divide="ignore", invalid="ignore"):
        broken = np.log((1 - fn / 150) / (fp / 150)).reshape(151, 151)
    lie = 1 / (1 + math.e)
    assert failure_rate(broken, 1.0, lie, lie) > 0.4


def test_gdp_reaches_most_of_gaussian_steps() -> None:
    """16 full-batch steps at σ = 4 are 1-GDP; at 10,000 a side the bound is above 80 % of ε."""
    n, mu = 10_000, math.sqrt(16) / 4
    missed = round(n * float(ndtr(0.5 - mu)))
    alarms = round(n * float(ndtr(-0.5)))
    found = gdp_epsilon(n - missed, missed, alarms, n - alarms, 1e-5)
    true = gaussian_epsilon(mu, 1e-5)
    assert 0.8 * true < found.epsilon < true
    assert two_rate_epsilon(n - missed, missed, alarms, n - alarms, 1e-5).epsilon < 0.3 * true


def test_nobody_tested_shows_nothing() -> None:
    for bound in (two_rate_epsilon, gdp_epsilon):
        for counts in ((0, 0, 0, 0), (5, 0, 0, 0), (0, 0, 0, 5)):
            found = bound(*counts, 1e-5)
            assert (found.epsilon, found.ceiling) == (0.0, 0.0)


@pytest.mark.parametrize("epsilon", [0.0, 1.0, 4.0, 8.0])
@pytest.mark.parametrize("delta", [0.0, 1e-5])
def test_size_is_the_smallest_that_can_show_it(epsilon: float, delta: float) -> None:
    n = two_rate_size(epsilon, delta)
    assert two_rate_epsilon(n, 0, 0, n, delta).ceiling >= epsilon - 1e-12
    if n > 1:
        assert two_rate_epsilon(n - 1, 0, 0, n - 1, delta).ceiling < max(epsilon, 1e-12)


@pytest.mark.parametrize(
    ("counts", "delta", "confidence", "said"),
    [
        ((-1, 0, 0, 0), 0.1, 0.95, "tp"),
        ((1, 0.5, 0, 0), 0.1, 0.95, "fn"),
        ((1, 1, 1, 1), 1.0, 0.95, "delta"),
        ((1, 1, 1, 1), -0.1, 0.95, "delta"),
        ((1, 1, 1, 1), math.nan, 0.95, "delta"),
        ((1, 1, 1, 1), 0.1, 0.0, "confidence"),
        ((1, 1, 1, 1), 0.1, 1.0, "confidence"),
    ],
)
def test_refused(
    counts: tuple[int, int, int, int], delta: float, confidence: float, said: str
) -> None:
    for bound in (two_rate_epsilon, gdp_epsilon):
        with pytest.raises(ValueError, match=said):
            bound(*counts, delta, confidence)


def test_gaussian_needs_a_delta() -> None:
    with pytest.raises(ValueError, match="above 0"):
        gdp_epsilon(1, 1, 1, 1, 0.0)
    with pytest.raises(ValueError, match="epsilon"):
        two_rate_size(-1.0, 0.0)
