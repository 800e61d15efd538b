"""Coins: independent, fair, and not one stream in two guises."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from attacks.canaries import seeds, throw


def test_fair_and_independent_of_one_another() -> None:
    """Over 400 seeds of 50 coins: heads, and equal neighbours, are binomial with one half."""
    thrown = np.array([throw(50, seed) for seed in seeds(400, entropy=1)])
    assert binomtest(int(thrown.sum()), thrown.size).pvalue > 1e-6
    equal = thrown[:, 1:] == thrown[:, :-1]
    assert binomtest(int(equal.sum()), equal.size).pvalue > 1e-6
    # Of one seed to the next as well.
    across = thrown[1:] == thrown[:-1]
    assert binomtest(int(across.sum()), across.size).pvalue > 1e-6
    # A half of a fixed size would have no spread at all.
    spread = float(np.var(thrown.sum(axis=1)))
    assert 8.0 < spread < 18.0  # 12.5 expected, with a standard deviation of 0.9


def test_a_coin_does_not_depend_on_how_many_there_are() -> None:
    few, many = (seeds(1, entropy=3)[0] for _ in range(2))
    assert np.array_equal(throw(5, few), throw(50, many)[:5])


def test_the_operating_system_throws_unless_told_otherwise() -> None:
    assert not np.array_equal(throw(200, seeds(1)[0]), throw(200, seeds(1)[0]))


def test_a_seed_throws_once() -> None:
    (seed,) = seeds(1, entropy=0)
    throw(3, seed)
    with pytest.raises(ValueError, match="once"):
        throw(3, seed)


def test_counts_are_checked() -> None:
    with pytest.raises(ValueError, match="count"):
        seeds(-1)
