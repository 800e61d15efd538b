"""Rényi curves against dp_accounting, closed forms and exact one-dimensional divergences."""

from __future__ import annotations

import math

import numpy as np
import pytest
from dp_accounting import dp_event, rdp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import skellam

from privfin.privacy.renyi import (
    ORDERS,
    curve_delta,
    curve_epsilon,
    every_order,
    gaussian_curve,
    poisson_sampled,
)

Log = np.ndarray


def log_skellam(variance: float, shift: int, reach: int) -> Log:
    return skellam.logpmf(np.arange(-reach, reach + 1) - shift, variance / 2, variance / 2)


def divergence(order: int, p: Log, q: Log) -> float:
    """D_order(p || q) of two log probability functions on the same points."""
    return float(np.logaddexp.reduce(order * p - (order - 1) * q)) / (order - 1)


@settings(deadline=None, max_examples=20)
@given(noise=st.floats(0.3, 50.0), rate=st.floats(1e-4, 1.0))
def test_the_gaussian_curve_is_that_of_dp_accounting(noise: float, rate: float) -> None:
    accountant = rdp.RdpAccountant(list(ORDERS))
    accountant.compose(dp_event.PoissonSampledDpEvent(rate, dp_event.GaussianDpEvent(noise)), 1)
    expected = np.array(accountant._rdp)
    # dp_accounting's own sum cancels where the divergence is tiny.
    np.testing.assert_allclose(gaussian_curve(noise, rate), expected, rtol=1e-6, atol=1e-12)


def test_tiny_divergences_keep_their_digits() -> None:
    # For small q and order 2 the divergence is log(1 + q² (exp(D) - 1)).
    noise, rate = 100.0, 1e-6
    exact = math.log1p(rate**2 * math.expm1(1 / noise**2))
    assert gaussian_curve(noise, rate)[0] == pytest.approx(exact, rel=1e-12)


def test_everyone_sampled_is_the_unsampled_curve() -> None:
    curve = every_order() / 8.0
    np.testing.assert_allclose(poisson_sampled(curve, 1.0), np.asarray(ORDERS) / 8.0)
    np.testing.assert_allclose(poisson_sampled(curve, 1.0 - 1e-15), np.asarray(ORDERS) / 8.0)


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("shift", [1, 3, 8])
@pytest.mark.parametrize("variance", [2.0, 10.0, 60.0])
def test_both_directions_of_sampling_are_held(rate: float, shift: int, variance: float) -> None:
    reach = int(40 * math.sqrt(variance)) + 60
    without, shifted = (log_skellam(variance, at, reach) for at in (0, shift))
    mixed = np.logaddexp(math.log1p(-rate) + without, math.log(rate) + shifted)
    # Orders beyond 12 are not used here, but the sums need some value there.
    exact = np.full(every_order().size, math.inf)
    for order in range(2, 13):
        exact[order - 2] = divergence(order, shifted, without)
    found = poisson_sampled(exact, rate)
    for order in range(2, 13):
        forward = divergence(order, mixed, without)
        assert found[ORDERS.index(order)] == pytest.approx(forward, rel=1e-9, abs=1e-12)
        assert divergence(order, without, mixed) <= forward * (1 + 1e-9) + 1e-12


def test_a_missing_term_of_the_sum_would_be_seen() -> None:
    """Without the top term of the sum the mixture's true divergence would be above the curve."""
    variance, shift, rate, order = 4.0, 6, 0.3, 6
    without, shifted = (log_skellam(variance, at, 120) for at in (0, shift))
    mixed = np.logaddexp(math.log1p(-rate) + without, math.log(rate) + shifted)
    exact = np.zeros(every_order().size)
    for k in range(2, order + 1):
        exact[k - 2] = divergence(k, shifted, without)
    whole = poisson_sampled(exact, rate)[ORDERS.index(order)]
    exact[order - 2] = 0.0
    assert poisson_sampled(exact, rate)[ORDERS.index(order)] < 0.9 * whole
    assert divergence(order, mixed, without) == pytest.approx(whole, rel=1e-9)


def test_infinite_divergences_stay_infinite() -> None:
    assert np.isinf(gaussian_curve(0.0, 0.1)).all()
    assert np.isinf(poisson_sampled(np.full(every_order().size, math.inf), 0.1)).all()


def test_conversions_agree_with_each_other_and_with_the_ends() -> None:
    curve = 300 * gaussian_curve(2.0, 0.1)
    for delta in (1e-10, 1e-5, 1e-2):
        assert curve_delta(curve, curve_epsilon(curve, delta)) == pytest.approx(delta, rel=1e-9)
    assert curve_epsilon(curve, 0.0) == math.inf
    assert curve_epsilon(np.zeros(len(ORDERS)), 0.0) == 0.0
    assert curve_delta(np.zeros(len(ORDERS)), 0.0) == 0.0
    assert curve_epsilon(np.full(len(ORDERS), math.inf), 1e-5) == math.inf
