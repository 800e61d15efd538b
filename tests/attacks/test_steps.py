"""Per-step audits: the bound is that of the score routes, holds, and comes near the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, norm

from attacks.limits import upper_limit
from attacks.steps import step_bound, step_ceiling_mu

DELTA = 1e-5


def steps(mu: float, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    coins = rng.random(count) < 0.5
    return rng.normal(mu * coins, 1.0), coins


def test_closed_form_of_a_fixed_threshold() -> None:
    """No overlap at all: both limits are 1 - (error / 2)^(1/n)."""
    coins = np.arange(400) < 150
    found = step_bound(np.where(coins, 1.0, -1.0), coins, delta=DELTA, threshold=0.0)
    x, y = 1 - 0.025 ** (1 / 150), 1 - 0.025 ** (1 / 250)
    assert found.mu == pytest.approx(-norm.ppf(x) - norm.ppf(y))
    assert step_ceiling_mu(coins, threshold=0.0) == pytest.approx(found.mu)
    assert found.epsilon == pytest.approx(found.ceiling)


@pytest.mark.parametrize("threshold", [None, 0.0])
def test_ceiling_is_what_a_perfect_test_shows(threshold: float | None) -> None:
    for count in (1, 2, 7, 61):
        coins = np.arange(count) % 3 == 0
        scores = np.where(coins, 1.0, -1.0)
        found = step_bound(scores, coins, delta=DELTA, threshold=threshold)
        assert step_ceiling_mu(coins, threshold=threshold) == pytest.approx(found.mu)


@pytest.mark.parametrize("threshold", [None, 0.5])
def test_coverage_and_tightness(threshold: float | None) -> None:
    """At 80 %, so that failures are common enough to be counted."""
    bounds = []
    for seed in range(300):
        found = step_bound(*steps(1.0, 2000, seed), delta=DELTA, confidence=0.8,
                           threshold=threshold, seed=seed)  # fmt: skip
        assert found.mu is not None
        bounds.append(found.mu)
    assert sum(mu > 1.0 for mu in bounds) <= binom.isf(1e-7, 300, 0.2)
    assert np.median(bounds) > 0.75


def test_a_step_of_half_the_noise_is_a_contradiction() -> None:
    found = step_bound(*steps(2.0, 2000, 5), delta=DELTA, threshold=1.0)
    assert found.mu is not None
    assert found.mu > 1.0


def test_null_scores_show_nothing_and_wrong_input_is_refused() -> None:
    assert step_bound(np.zeros(50), np.arange(50) % 2, delta=DELTA).mu == 0.0
    with pytest.raises(ValueError, match="one length"):
        step_bound([0.0, 1.0], [1], delta=DELTA)
    with pytest.raises(ValueError, match="0 or 1"):
        step_ceiling_mu([2])
    assert upper_limit(0, 0, 0.1) == 1.0
    assert step_ceiling_mu([]) == 0.0
