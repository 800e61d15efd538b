"""A threshold's choice is paid for: coverage of each choice, and the uncorrected maximum caught."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from attacks.bounds import (
    fdp_epsilon,
    gaussian_epsilon,
    gdp_epsilon,
    guess_bound,
    one_run_epsilon,
    one_run_p_value,
    score_bound,
    two_rate_epsilon,
)
from attacks.thresholds import correct_guesses
from attacks.two_rates import two_rate_epsilons

Draw = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]


def laplace(epsilon: float, each: int) -> Draw:
    """Laplace noise of scale 1: e^ε is reached at every threshold beyond the means."""
    members = np.arange(2 * each) < each
    return lambda rng: (rng.laplace(epsilon * members, 1.0), members)


def gaussian(mu: float, each: int) -> Draw:
    members = np.arange(2 * each) < each
    return lambda rng: (rng.normal(mu * members, 1.0), members)


def test_fixed_is_the_bound_of_its_counts() -> None:
    scores, members = gaussian(1.0, 300)(np.random.default_rng(1))
    called = scores >= 0.5
    tp, fp = int(np.sum(called & members)), int(np.sum(called & ~members))
    for route, bound in (("two_rate", two_rate_epsilon), ("gdp", gdp_epsilon)):
        found = score_bound(
            scores, members, route=route, choice="fixed", delta=1e-5, thresholds=[0.5]
        )
        expected = bound(tp, 300 - tp, fp, 300 - fp, 1e-5)
        assert found.epsilon == pytest.approx(expected.epsilon)
        assert found.ceiling == pytest.approx(expected.ceiling)
        assert found.mu == pytest.approx(expected.mu)


def test_bonferroni_of_given_thresholds_is_the_best_at_a_smaller_error() -> None:
    scores, members = laplace(1.0, 300)(np.random.default_rng(2))
    tried = [0.0, 1.0, 2.0, 3.0]
    options = []
    for threshold in tried:
        called = scores >= threshold
        tp, fp = int(np.sum(called & members)), int(np.sum(called & ~members))
        options.append(two_rate_epsilon(tp, 300 - tp, fp, 300 - fp, 0.0, 1 - 0.05 / 4).epsilon)
    found = score_bound(
        scores, members, route="two_rate", choice="bonferroni", delta=0.0, thresholds=tried
    )
    assert found.epsilon == pytest.approx(max(options))
    assert found.ceiling == pytest.approx(
        two_rate_epsilon(300, 0, 0, 300, 0.0, 1 - 0.05 / 4).epsilon
    )


@pytest.mark.parametrize(
    ("draw", "route", "true", "delta"),
    [
        (laplace(0.0, 200), "two_rate", 0.0, 0.0),
        (laplace(1.0, 200), "two_rate", 1.0, 0.0),
        (gaussian(0.0, 200), "gdp", 0.0, 1e-5),
        (gaussian(1.0, 200), "gdp", gaussian_epsilon(1.0, 1e-5), 1e-5),
    ],
)
@pytest.mark.parametrize("choice", ["fixed", "bonferroni", "split"])
def test_coverage(draw: Draw, route: str, true: float, delta: float, choice: str) -> None:
    """At 80 %, so that failures are common enough to be counted."""
    rng, runs, failed = np.random.default_rng(31), 300, 0
    for seed in range(runs):
        scores, members = draw(rng)
        found = score_bound(
            scores,
            members,
            route=route,
            choice=choice,
            delta=delta,
            confidence=0.8,
            thresholds=[1.0] if choice == "fixed" else None,
            seed=seed,
        )
        failed += found.epsilon > true
    assert failed <= binom.isf(1e-7, runs, 0.2)


def uncorrected_maximum(scores: np.ndarray, members: np.ndarray, confidence: float) -> float:
    """A broken variant: the best of all thresholds, each at the whole error."""
    inside, outside = np.sort(scores[members]), np.sort(scores[~members])
    tried = np.unique(scores)
    fn = np.searchsorted(inside, tried)
    fp = outside.size - np.searchsorted(outside, tried)
    error = (1 - confidence) / 2
    return float(two_rate_epsilons(fn, inside.size, fp, outside.size, 0.0, error).max())


@pytest.mark.parametrize("epsilon", [0.0, 1.0])
def test_uncorrected_maximum_of_thresholds_is_caught(epsilon: float) -> None:
    rng, runs, failed, broken = np.random.default_rng(32), 300, 0, 0
    draw = laplace(epsilon, 1000)
    for _ in range(runs):
        scores, members = draw(rng)
        found = score_bound(
            scores, members, route="two_rate", choice="bonferroni", delta=0.0, confidence=0.8
        )
        failed += found.epsilon > epsilon
        broken += uncorrected_maximum(scores, members, 0.8) > epsilon
    limit = binom.isf(1e-7, runs, 0.2)
    assert failed <= limit < broken


def test_uncorrected_maximum_of_guesses_is_caught() -> None:
    """Randomised response at ε = 1 whose certainty is noise: 15 numbers of guesses are tried."""
    rng, runs, canaries, epsilon = np.random.default_rng(33), 500, 400, 1.0
    pairs = [(k, k) for k in range(10, 160, 10)]
    limit = binom.isf(1e-7, runs, 0.05)
    paid = 1 - 0.05 / len(pairs)
    passing = {
        (k, level): bisect_left(
            range(2 * k + 1),
            -(1 - level),
            key=lambda v, k=k: -one_run_p_value(canaries, 2 * k, v, epsilon, 0.0),
        )
        for k, _ in pairs
        for level in (0.95, paid)
    }
    failed = dict.fromkeys((0.95, paid), 0)
    share, fixed = 1 / (1 + math.exp(-epsilon)), 0
    for _ in range(runs):
        coins = rng.random(canaries) < 0.5
        told = coins == (rng.random(canaries) < share)
        scores = np.where(told, 1.0, -1.0) * rng.random(canaries)
        right = {k: correct_guesses(scores, coins, k, k) for k, _ in pairs}
        for level in failed:
            failed[level] += any(right[k] >= passing[k, level] for k in right)
        fixed += right[50] >= passing[50, 0.95]
    assert failed[paid] <= limit
    assert fixed <= limit
    assert failed[0.95] > limit


def test_guesses_are_the_ends_of_the_scores() -> None:
    rng = np.random.default_rng(34)
    coins = rng.random(400) < 0.5
    scores = rng.normal(size=400) + 1.5 * coins
    order = np.argsort(scores)
    right = int(coins[order[-40:]].sum() + (~coins[order[:30]]).sum())
    for route, bound in (("one_run", one_run_epsilon), ("fdp", fdp_epsilon)):
        found = guess_bound(
            scores, coins, route=route, choice="fixed", guesses=[(40, 30)], delta=1e-5
        )
        expected = bound(400, 70, right, 1e-5)
        assert found.epsilon == pytest.approx(expected.epsilon, abs=1e-8)
        both = guess_bound(
            scores,
            coins,
            route=route,
            choice="bonferroni",
            guesses=[(40, 30), (1, 1)],
            delta=1e-5,
        )
        assert both.epsilon == pytest.approx(bound(400, 70, right, 1e-5, 0.975).epsilon, abs=1e-8)
        split = guess_bound(
            scores,
            coins,
            route=route,
            choice="split",
            guesses=[(30, 0), (0, 30), (15, 15)],
            delta=1e-5,
        )
        assert 0.0 < split.epsilon < gaussian_epsilon(1.5, 1e-5)
        assert split.ceiling == bound(400, 30, 30, 1e-5).ceiling


def test_split_covers() -> None:
    """At ε = 0: pairs of one total, chosen on one half, tested on the other."""
    rng, runs, failed = np.random.default_rng(35), 400, 0
    pairs = [(k, 20 - k) for k in range(0, 21, 4)]
    for seed in range(runs):
        coins, scores = rng.random(60) < 0.5, rng.normal(size=60)
        failed += (
            guess_bound(
                scores,
                coins,
                route="one_run",
                choice="split",
                guesses=pairs,
                delta=0.0,
                confidence=0.8,
                seed=seed,
            ).epsilon
            > 0
        )
    assert failed <= binom.isf(1e-7, runs, 0.2)


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=4, max_size=40),
    st.data(),
    st.integers(0, 2**32 - 1),
)
def test_divided_ties_are_never_in_the_attackers_favour(
    rows: list[tuple[int, bool]], data: st.DataObject, seed: int
) -> None:
    scores, coins = np.array([float(row[0]) for row in rows]), np.array([row[1] for row in rows])
    count_in = data.draw(st.integers(0, len(rows)))
    count_out = data.draw(st.integers(0, len(rows) - count_in))
    right = correct_guesses(scores, coins, count_in, count_out)
    # Rows in any order, ties cut where they fall: at least as many are right.
    shuffled = np.random.default_rng(seed).permutation(len(rows))
    order = shuffled[np.argsort(scores[shuffled], kind="stable")]
    top, bottom = order[len(rows) - count_in :], order[:count_out]
    assert right <= coins[top].sum() + (~coins[bottom]).sum()
    assert right == correct_guesses(scores[shuffled], coins[shuffled], count_in, count_out)


@pytest.mark.parametrize("choice", ["fixed", "bonferroni", "split"])
def test_constant_and_shuffled_scores(choice: str) -> None:
    members = np.arange(600) < 300
    given_threshold = [0.0] if choice == "fixed" else None
    scores = np.round(np.random.default_rng(36).normal(2.0 * members, 1.0))
    order = np.random.default_rng(37).permutation(600)
    for route in ("two_rate", "gdp"):
        options = {
            "route": route,
            "choice": choice,
            "delta": 1e-5,
            "thresholds": given_threshold,
        }
        assert score_bound(np.zeros(600), members, **options).epsilon == 0.0
        found = score_bound(scores, members, **options)
        assert found == score_bound(scores[order], members[order], **options)
        assert 0.0 <= found.epsilon <= found.ceiling


def test_ceiling_is_reached_by_scores_that_tell_all() -> None:
    members = np.arange(400) < 200
    for choice in ("fixed", "bonferroni", "split"):
        found = score_bound(
            members * 1.0,
            members,
            route="two_rate",
            choice=choice,
            delta=0.0,
            thresholds=[0.5] if choice == "fixed" else None,
        )
        assert found.epsilon == found.ceiling > 2.0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"choice": "fixed"}, "exactly one"),
        ({"choice": "fixed", "thresholds": [0.1, 0.2]}, "exactly one"),
        ({"choice": "fixed", "thresholds": [math.nan]}, "numbers"),
        ({"choice": "bonferroni", "thresholds": []}, "at least one"),
        ({"choice": "split", "thresholds": [0.1]}, "its own"),
        ({"choice": "maximum"}, "must be fixed"),
        ({"choice": "bonferroni", "route": "best"}, "route"),
        ({"choice": "bonferroni", "route": "gdp", "delta": 0.0}, "above 0"),
        ({"choice": "bonferroni", "delta": 1.0}, "delta"),
        ({"choice": "bonferroni", "confidence": 1.0}, "confidence"),
    ],
)
def test_score_bound_refuses(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        score_bound([0.0, 1.0], [0, 1], **{"route": "two_rate", "delta": 0.1} | options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"guesses": []}, "exactly one"),
        ({"guesses": [(1, 1), (1, 0)]}, "exactly one"),
        ({"guesses": [], "choice": "bonferroni"}, "at least one"),
        ({"guesses": [(3, 2)]}, "do not fit 4"),
        ({"guesses": [(-1, 2)]}, "do not fit"),
        ({"guesses": [(2, 1)], "choice": "split"}, "do not fit 2"),
        ({"guesses": [(1, 1), (1, 0)], "choice": "split"}, "one total"),
        ({"choice": "maximum"}, "must be fixed"),
        ({"route": "best"}, "route"),
        ({"route": "fdp", "delta": 0.0}, "above 0"),
    ],
)
def test_guess_bound_refuses(options: dict[str, object], said: str) -> None:
    usual = {"route": "one_run", "choice": "fixed", "guesses": [(1, 1)], "delta": 0.1}
    with pytest.raises(ValueError, match=said):
        guess_bound([0.0, 1.0, 2.0, 3.0], [0, 1, 0, 1], **usual | options)
