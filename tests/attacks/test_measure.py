"""What is said of an attack: closed forms, and bounds that hold."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, norm

from attacks.attempt import Attempt
from attacks.measure import Measured, measure, thinned
from attacks.roc import roc


def attempt(scores: np.ndarray, members: np.ndarray) -> Attempt:
    return Attempt("loss", "outsider", "all", scores, members)


def test_gaussian_scores_have_their_closed_forms() -> None:
    rng = np.random.default_rng(1)
    members = rng.random(40_000) < 0.5
    found = measure(attempt(rng.standard_normal(40_000) + members, members), delta=1e-5)
    assert found.area.low < norm.cdf(1 / np.sqrt(2)) < found.area.high
    one = found.points[0]
    assert one.tpr_limits[0] < norm.cdf(norm.ppf(0.01) + 1) < one.tpr_limits[1] + 0.01
    assert found.bound is not None
    assert 0.5 < found.bound.epsilon < 4.377  # 1-GDP at this delta
    assert found.bound.ceiling > found.bound.epsilon


def test_randomised_response_is_never_overstated_too_often() -> None:
    """A split of fixed size, a known epsilon: the bound fails at most as often as it says."""
    epsilon, failures, runs = 1.0, 0, 200
    for seed in range(runs):
        rng = np.random.default_rng([9, seed])
        members = np.zeros(1000, dtype=bool)
        members[rng.permutation(1000)[:500]] = True
        honest = rng.random(1000) < np.exp(epsilon) / (1 + np.exp(epsilon))
        scores = np.where(honest, members, ~members) + 0.001 * rng.random(1000)
        found = measure(attempt(scores, members), delta=0.0, seed=seed)
        assert found.bound is not None
        failures += found.bound.epsilon > epsilon
    assert failures <= binom.isf(1e-7, runs, 0.05)


def test_null_scores_show_nothing() -> None:
    members = np.arange(300) % 2 == 0
    found = measure(attempt(np.zeros(300), members), delta=1e-5)
    assert found.area.area == 0.5
    bounds = [
        measure(attempt(np.zeros(300), members), delta=1e-5, seed=seed).bound for seed in range(100)
    ]
    above = sum(bound is not None and bound.epsilon > 0 for bound in bounds)
    assert above <= binom.isf(1e-7, 100, 0.05)


def test_an_attack_that_says_only_yes_or_no_is_not_lost_to_ties() -> None:
    members = np.arange(400) % 2 == 0
    found = measure(attempt(members * 1.0, members), delta=1e-5)
    assert found.bound is not None
    assert found.bound.epsilon == pytest.approx(found.bound.ceiling)


def test_order_of_patients_changes_nothing_but_the_coins() -> None:
    rng = np.random.default_rng(2)
    members = rng.random(500) < 0.7
    scores = np.round(rng.standard_normal(500) + members, 1)
    order = rng.permutation(500)
    one = measure(attempt(scores, members), delta=1e-5)
    two = measure(attempt(scores[order], members[order]), delta=1e-5)
    assert one.points == two.points
    assert one.area.area == pytest.approx(two.area.area, abs=1e-12)


def test_a_thin_curve_lies_on_the_curve() -> None:
    rng = np.random.default_rng(3)
    members = rng.random(5000) < 0.5
    curve = roc(rng.standard_normal(5000) + 2 * members, members)
    every = set(zip(curve.fpr.tolist(), curve.tpr.tolist(), strict=True))
    thin = thinned(curve)
    assert len(thin) <= 200
    assert thin[0] == [0.0, 0.0]
    assert thin[-1] == [1.0, 1.0]
    assert all((x, y) in every for x, y in thin)


def test_an_attempt_needs_both_sides() -> None:
    with pytest.raises(ValueError, match="at least one member"):
        measure(attempt(np.zeros(3), np.ones(3, dtype=bool)), delta=0.0)


def test_the_dictionary_says_what_was_measured() -> None:
    members = np.arange(100) % 2 == 0
    found: Measured = measure(attempt(members * 1.0, members), delta=1e-5)
    content = found.to_dict()
    assert content["auc"]["value"] == 1.0
    assert content["tpr"][2]["resolved"] is False
    assert content["tpr"][0]["smallest_fpr"] == 0.02
    assert content["epsilon_bound"] == pytest.approx(found.bound and found.bound.epsilon)
