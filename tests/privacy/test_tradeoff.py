"""What a profile says of an attacker: closed forms, exact tests, and never less than they reach."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from privfin.privacy import tradeoff
from privfin.privacy.accounting import SubsampledGaussianEvent, epsilon
from privfin.privacy.profile import privacy_profile
from privfin.privacy.tradeoff import (
    NO_PRIVACY,
    NOTHING_RELEASED,
    REPORTED_RATES,
    PrivacyProfile,
    best_accuracy,
    certainty,
    fit_gaussian,
    gaussian_profile,
    gaussian_true_positive_rate,
    true_positive_rate,
)

RATES = (1e-4, *REPORTED_RATES, 0.3, 0.5, 0.9)


def profile(noise: float, rate: float, steps: int) -> PrivacyProfile:
    return privacy_profile([[SubsampledGaussianEvent(noise, rate, steps)]])


def exact_tests(noise: float, rate: float, fpr: float) -> float:
    """The likelihood-ratio test's best rate for one subsampled step, patient added or removed.

    N(0, σ²) against (1 - q) N(0, σ²) + q N(1, σ²): the likelihood ratio rises with the outcome, so
    the best tests are thresholds.
    """

    def mixed(x: float) -> float:
        return float((1 - rate) * norm.cdf(x / noise) + rate * norm.cdf((x - 1) / noise))

    added = 1 - mixed(noise * norm.isf(fpr))
    low, high = -40 * noise, 40 * noise + 1
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if mixed(middle) < fpr else (low, middle)
    return max(added, float(norm.cdf(low / noise)))


@pytest.mark.parametrize(("noise", "steps"), [(0.5, 1), (1.0, 1), (4.0, 1), (5.0, 50)])
def test_a_gaussian_is_its_own_fit(noise: float, steps: int) -> None:
    mu = math.sqrt(steps) / noise
    found = profile(noise, 1.0, steps)
    fit = fit_gaussian(found)
    assert mu - 1e-9 <= fit.mu <= 1.0005 * mu
    assert fit.excess < 1e-4
    for fpr in RATES:
        exact = float(norm.cdf(norm.ppf(fpr) + mu))
        assert exact - 1e-9 <= true_positive_rate(found, fpr) <= exact + 1e-3
        assert gaussian_true_positive_rate(mu, fpr) == pytest.approx(exact)
    assert best_accuracy(found) == pytest.approx(norm.cdf(mu / 2), abs=1e-4)


@settings(max_examples=12, deadline=None)
@given(
    noise=st.floats(0.4, 5.0),
    rate=st.floats(0.01, 0.99),
    fpr=st.floats(1e-4, 0.999),
)
def test_no_test_of_a_subsampled_step_beats_the_bound(
    noise: float, rate: float, fpr: float
) -> None:
    found = profile(noise, rate, 1)
    exact = exact_tests(noise, rate, fpr)
    bound = true_positive_rate(found, fpr)
    assert bound >= exact - 1e-7
    # Nor is the bound empty: it is the hull of the curves for adding and for removing a patient.
    assert bound <= exact + 0.05
    assert gaussian_true_positive_rate(fit_gaussian(found).mu, fpr) >= exact - 1e-7


@pytest.mark.parametrize("line", ["few", "many"])
def test_each_supporting_line_is_needed(line: str) -> None:
    """Left with one family of lines, the bound is loose on the other side of the curve."""
    found = profile(1.0, 1.0, 1)
    growth = np.exp(found.epsilons)
    fpr = 0.01 if line == "many" else 0.6
    few = float((growth * fpr + found.deltas).min())
    many = float((1 - (1 - fpr - found.deltas) / growth).min())
    used = few if line == "few" else many
    assert used > true_positive_rate(found, fpr) + 0.01


@pytest.mark.parametrize(
    ("noise", "rate", "steps"), [(1.0, 0.032, 620), (2.0, 0.128, 480), (1.0, 0.25, 4)]
)
def test_a_fit_is_nowhere_more_private_than_the_mechanism(
    noise: float, rate: float, steps: int
) -> None:
    found = profile(noise, rate, steps)
    fit = fit_gaussian(found)
    assert fit.smallest_delta == 1e-10
    event = SubsampledGaussianEvent(noise, rate, steps)
    for delta in (1e-9, 1e-7, 1e-5, 1e-3, 1e-2):  # off the grid that was fitted on
        at = epsilon([event], delta)
        assert gaussian_profile(fit.mu, np.array([at]))[0] >= delta * (1 - 1e-9)
    for fpr in RATES:
        own, fitted = true_positive_rate(found, fpr), gaussian_true_positive_rate(fit.mu, fpr)
        assert own <= fitted + 1e-9
        shifted = true_positive_rate(found, min(1.0, fpr + fit.excess))
        assert fitted <= shifted + fit.excess + 1e-3
    assert not tradeoff._covers(found, 0.99 * fit.mu)  # a smaller one is seen to be too small


def test_bounds_are_ordered() -> None:
    runs = [profile(1.0, 0.05, steps) for steps in (1, 10, 100, 1000)]
    mus = [fit_gaussian(each).mu for each in runs]
    assert mus == sorted(mus)
    for each in runs:
        reached = [true_positive_rate(each, fpr) for fpr in RATES]
        assert reached == sorted(reached)
        assert all(tpr >= fpr for tpr, fpr in zip(reached, RATES, strict=True))
    for fpr in RATES:
        over = [true_positive_rate(each, fpr) for each in runs]
        assert over == sorted(over)


def test_the_worst_alternative_counts() -> None:
    weak, strong = (SubsampledGaussianEvent(s, 0.1, 50) for s in (0.8, 3.0))
    both = privacy_profile([[weak], [strong]])
    for fpr in RATES:
        alone = true_positive_rate(privacy_profile([[weak]]), fpr)
        assert true_positive_rate(both, fpr) == pytest.approx(alone, abs=1e-6)
    composed = privacy_profile([[weak, strong]])
    assert fit_gaussian(composed).mu > fit_gaussian(both).mu


@pytest.mark.parametrize(
    ("noise", "rate", "steps"), [(0.0, 0.1, 1), (0.05, 0.9, 1000), (0.002, 0.9, 10)]
)
@pytest.mark.filterwarnings("error")
def test_without_protection_nothing_is_promised(noise: float, rate: float, steps: int) -> None:
    found = profile(noise, rate, steps)
    assert best_accuracy(found) == 1.0
    assert true_positive_rate(found, 0.001) == 1.0
    assert fit_gaussian(found).mu == math.inf
    assert gaussian_true_positive_rate(math.inf, 0.001) == 1.0


def test_what_is_not_a_number_promises_nothing() -> None:
    broken = PrivacyProfile(np.array([0.0, 1.0]), np.array([math.nan, math.nan]), 1e-10)
    assert true_positive_rate(broken, 0.01) == 1.0
    assert fit_gaussian(broken).mu == math.inf
    assert fit_gaussian(NO_PRIVACY).mu == math.inf


def test_without_steps_an_attacker_guesses() -> None:
    found = profile(1.0, 0.1, 0)
    assert found is NOTHING_RELEASED
    assert best_accuracy(found) == 0.5
    assert fit_gaussian(found).mu == 0.0
    assert [true_positive_rate(found, fpr) for fpr in RATES] == list(RATES)


def test_certainty_is_the_posterior_of_even_odds() -> None:
    for at, share in ((0.0, 0.5), (1.0, 0.731), (3.0, 0.953), (8.0, 0.99966)):
        assert certainty(at) == pytest.approx(share, abs=5e-4)
    assert certainty(math.inf) == 1.0
