"""One-run bounds: reference values, derivations of their own, coverage, and broken variants."""

from __future__ import annotations

import math
from bisect import bisect_right

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr
from scipy.stats import binom, norm

from attacks.bounds import fdp_epsilon, gaussian_epsilon, one_run_epsilon, one_run_p_value
from attacks.one_run import rejects_mu


@st.composite
def cases(draw: st.DrawFn) -> tuple[int, int, int]:
    canaries = draw(st.integers(1, 300))
    guesses = draw(st.integers(0, canaries))
    return canaries, guesses, draw(st.integers(0, guesses))


def test_reference_values() -> None:
    """Public audit libraries agree on these."""
    for (canaries, guesses, correct, delta), epsilon in (
        ((1000, 100, 95, 1e-5), 2.165176),
        ((5000, 500, 450, 1e-5), 1.941420),
        ((100, 100, 100, 0.0), 3.492965),
    ):
        found = one_run_epsilon(canaries, guesses, correct, delta)
        assert found.epsilon == pytest.approx(epsilon, abs=1e-6)
    found = fdp_epsilon(1000, 100, 95, 1e-5)
    assert found.mu == pytest.approx(0.786812, abs=1e-6)
    assert found.epsilon == pytest.approx(3.323300, abs=1e-6)


def test_closed_form_without_an_error() -> None:
    """All r right and δ = 0: q^r = 1 - confidence."""
    for guesses in (1, 5, 100, 3000):
        share = 0.05 ** (1 / guesses)
        expected = max(0.0, math.log(share / (1 - share)))
        found = one_run_epsilon(4000, guesses, guesses, 0.0)
        assert found.epsilon == found.ceiling == pytest.approx(expected, abs=1e-6)


@settings(deadline=None, max_examples=80)
@given(cases(), st.floats(0, 6), st.sampled_from([0.0, 1e-6, 1e-3, 0.1]))
def test_p_value_by_its_sum(case: tuple[int, int, int], epsilon: float, delta: float) -> None:
    """The formula term by term, in plain Python."""
    canaries, guesses, correct = case
    q = 1 / (1 + math.exp(-epsilon))
    chance = [math.comb(guesses, k) * q**k * (1 - q) ** (guesses - k) for k in range(guesses + 1)]
    tail, worst = sum(chance[correct:]), 0.0
    for i in range(1, correct + 1):
        worst = max(worst, sum(chance[correct - i : correct]) / i)
    expected = min(1.0, tail + 2 * canaries * delta * worst)
    assert one_run_p_value(*case, epsilon, delta) == pytest.approx(expected, abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(cases(), st.sampled_from([1e-6, 1e-3, 0.02]))
def test_monotone_and_below_the_ceiling(case: tuple[int, int, int], delta: float) -> None:
    canaries, guesses, correct = case
    for bound in (one_run_epsilon, fdp_epsilon):
        found = bound(canaries, guesses, correct, delta)
        assert 0.0 <= found.epsilon <= found.ceiling
        assert bound(canaries, guesses, guesses, delta).epsilon == found.ceiling
        assert bound(canaries, guesses, correct, delta, 0.99).epsilon <= found.epsilon + 1e-8
        assert bound(canaries, guesses, correct, 3 * delta).epsilon <= found.epsilon + 1e-8
        # Coins that nobody guesses are not free.
        assert bound(2 * canaries, guesses, correct, delta).epsilon <= found.epsilon + 1e-8
        if correct < guesses:
            assert bound(canaries, guesses, correct + 1, delta).epsilon >= found.epsilon - 1e-8
    assert one_run_epsilon(canaries, guesses, correct, delta).epsilon <= (
        one_run_epsilon(canaries, guesses, correct, 0.0).epsilon + 1e-8
    )


def test_no_or_wrong_guesses_show_nothing() -> None:
    for bound in (one_run_epsilon, fdp_epsilon):
        assert bound(100, 0, 0, 1e-5).epsilon == bound(100, 0, 0, 1e-5).ceiling == 0.0
        assert bound(0, 0, 0, 1e-5).epsilon == 0.0
        assert bound(100, 100, 0, 1e-5).epsilon == 0.0
        assert bound(100, 100, 50, 1e-5).epsilon == 0.0


def test_curve_links_right_and_wrong_guesses() -> None:
    """At μ = 0 right and wrong are alike, so half right is not rejected, and all right is."""
    assert not rejects_mu(100, 100, 50, 0.0, 0.05)
    assert rejects_mu(100, 100, 100, 0.0, 0.05)
    # One canary, one guess: rejected when Φ(Φ⁻¹(α) - μ) + α > 1, and never for α = 0.05.
    assert not rejects_mu(1, 1, 1, 0.0, 0.05)
    assert rejects_mu(1, 1, 1, 0.5, 0.8) == (ndtr(norm.ppf(0.8) - 0.5) + 0.8 > 1)


def first_failure(canaries: int, guesses: int, truth: float, delta: float) -> int:
    """The fewest right guesses whose bound passes the truth, since more never show less."""
    counts = range(guesses + 1)
    return bisect_right(
        counts, truth, key=lambda v: one_run_epsilon(canaries, guesses, v, delta).epsilon
    )


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize(("canaries", "guesses"), [(20, 20), (200, 60), (1000, 1000)])
def test_coverage_on_randomised_response(epsilon: float, canaries: int, guesses: int) -> None:
    """Each coin told with odds e^ε: right guesses are binomial, and the failure rate is a sum."""
    share = 1 / (1 + math.exp(-epsilon))
    for delta in (0.0, 1e-5):
        first = first_failure(canaries, guesses, epsilon, delta)
        assert binom.sf(first - 1, guesses, share) <= 0.05
    # Without δ the test is as sharp as a binomial test can be.
    first = first_failure(canaries, guesses, epsilon, 0.0)
    assert first > guesses or binom.sf(first - 2, guesses, share) >= 0.05 - 1e-6


def test_two_sided_limits_are_caught() -> None:
    """A two-sided test at the same confidence would leave half of the error unused."""
    found = one_run_epsilon(1000, 100, 95, 0.0).epsilon
    share = 1 / (1 + math.exp(-found))
    assert binom.sf(94, 100, share) == pytest.approx(0.05, rel=1e-6)


def leaked(rng: np.random.Generator, canaries: int, guesses: int, delta: float) -> int:
    """Right guesses against a mechanism that tells each coin with probability δ, and else nothing.

    It is (0, δ)-DP. The attacker guesses the coins that were told first.
    """
    told = min(guesses, int(rng.binomial(canaries, delta)))
    return told + int(rng.binomial(guesses - told, 0.5))


def test_delta_term_left_out_is_caught() -> None:
    rng, runs, delta = np.random.default_rng(21), 400, 0.02
    failed = {delta: 0, 0.0: 0}
    for _ in range(runs):
        right = leaked(rng, 1000, 12, delta)
        for used in failed:
            # The bound passes 0 where 0 is rejected.
            failed[used] += one_run_p_value(1000, 12, right, 0.0, used) < 0.05
    limit = binom.isf(1e-7, runs, 0.05)
    assert failed[delta] <= limit
    assert failed[0.0] > 0.9 * runs


def test_delta_counts_every_canary() -> None:
    """m is all coins, not the guesses: with r in its place the same leak is missed."""
    rng, runs, delta = np.random.default_rng(22), 400, 0.01
    failed = {1000: 0, 12: 0}
    for _ in range(runs):
        right = leaked(rng, 1000, 12, delta)
        for counted in failed:
            failed[counted] += one_run_p_value(counted, 12, right, 0.0, delta) < 0.05
    limit = binom.isf(1e-7, runs, 0.05)
    assert failed[1000] <= limit
    assert failed[12] > 0.5 * runs


def right_guesses(rng: np.random.Generator, canaries: int, side: int, mu: float) -> int:
    """One run of a Gaussian mechanism on independent canaries: the ends of the scores guessed."""
    coins = rng.random(canaries) < 0.5
    order = np.argsort(rng.normal(size=canaries) + mu * coins)
    return int(coins[order[-side:]].sum() + (~coins[order[:side]]).sum())


@pytest.mark.parametrize(("mu", "side"), [(0.25, 50), (1.0, 25), (1.0, 250), (3.0, 10)])
def test_coverage_on_a_gaussian(mu: float, side: int) -> None:
    rng, runs, delta = np.random.default_rng(23), 1000, 1e-5
    true = gaussian_epsilon(mu, delta)
    known: dict[int, tuple[bool, bool]] = {}
    failed = np.zeros(2, dtype=int)
    for _ in range(runs):
        right = right_guesses(rng, 500, side, mu)
        if right not in known:
            plain = one_run_epsilon(500, 2 * side, right, delta).epsilon
            curve = fdp_epsilon(500, 2 * side, right, delta).epsilon
            known[right] = (plain > true, curve > true)
        failed += known[right]
    assert failed.max() <= binom.isf(1e-7, runs, 0.05)


def test_the_curve_shows_more_than_one_point_of_it() -> None:
    """N(1, 1), true ε 4.38: with 50 guesses a side of 1000, 2.7 by the curve against 1.8."""
    rng, delta = np.random.default_rng(24), 1e-5
    right = round(np.mean([right_guesses(rng, 1000, 50, 1.0) for _ in range(50)]))
    curve = fdp_epsilon(1000, 100, right, delta).epsilon
    plain = one_run_epsilon(1000, 100, right, delta).epsilon
    assert 1.4 < plain < 2.1 < 2.3 < curve < 3.1 < gaussian_epsilon(1.0, delta)


@pytest.mark.parametrize(
    ("case", "delta", "said"),
    [
        ((10, 11, 5), 1e-5, "at most canaries"),
        ((10, 5, 6), 1e-5, "at most guesses"),
        ((10, 5, -1), 1e-5, "correct"),
        ((10.0, 5, 1), 1e-5, "whole"),
        ((10, 5, 1), 1.0, "delta"),
    ],
)
def test_refused(case: tuple[int, int, int], delta: float, said: str) -> None:
    for bound in (one_run_epsilon, fdp_epsilon):
        with pytest.raises(ValueError, match=said):
            bound(*case, delta)
    with pytest.raises(ValueError, match=said):
        one_run_p_value(*case, 1.0, delta)


def test_refuses_what_has_no_answer() -> None:
    with pytest.raises(ValueError, match="above 0"):
        fdp_epsilon(10, 5, 5, 0.0)
    with pytest.raises(ValueError, match="epsilon"):
        one_run_p_value(10, 5, 5, -1.0, 0.0)
    with pytest.raises(ValueError, match="confidence"):
        one_run_epsilon(10, 5, 5, 0.0, 1.0)
