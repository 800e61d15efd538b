"""Coins out of a split: fair, independent, and as many as the sides can serve."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import binom, chi2

from attacks.coins import coin_number, coin_patients


@pytest.mark.parametrize(("members", "nonmembers"), [(30, 30), (4500, 1500), (1500, 4500), (0, 9)])
def test_as_many_coins_as_both_sides_can_serve(members: int, nonmembers: int) -> None:
    count = coin_number(members, nonmembers)

    def short(coins: int) -> float:
        return float(binom.sf(members, coins, 0.5) + binom.sf(nonmembers, coins, 0.5))

    assert short(count) <= 1e-12 < short(count + 1)


def test_every_pattern_of_membership_is_as_likely() -> None:
    """Given which patients were chosen, their membership is m fair coins: all patterns alike.

    A fixed number of heads (the trap) never shows the patterns with other numbers.
    """
    rng = np.random.default_rng(5)
    pool, heads, seen = 46, 23, np.zeros((3, 2**3))
    for seed in range(20_000):
        split = np.zeros(pool, dtype=bool)
        split[rng.permutation(pool)[:heads]] = True
        chosen = coin_patients(split, seed)
        count = int(split[chosen].sum())
        if chosen.size >= 3:
            bits = split[rng.permutation(chosen)[:3]]
            seen[0, int(bits @ [4, 2, 1])] += 1
        seen[1, min(7, abs(count - chosen.size // 2))] += 1
    total = seen[0].sum()
    assert total == 20_000
    statistic = float(((seen[0] - total / 8) ** 2 / (total / 8)).sum())
    assert statistic < chi2.isf(1e-7, 7)
    # The number of heads varies as that of coins does.
    m = coin_number(heads, pool - heads)
    expected = [sum(binom.pmf(h, m, 0.5) for h in range(m + 1) if min(7, abs(h - m // 2)) == d)
                for d in range(8)]  # fmt: skip
    kept = [d for d in range(8) if expected[d] * 20_000 > 5]
    spread = sum((seen[1, d] - 20_000 * expected[d]) ** 2 / (20_000 * expected[d]) for d in kept)
    assert spread < chi2.isf(1e-7, len(kept))


def test_no_patient_twice_and_only_by_seed() -> None:
    split = np.arange(200) % 3 == 0
    first, again, other = (coin_patients(split, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(first, np.unique(first))


def test_exhaustive_on_a_tiny_pool() -> None:
    """Counted, not drawn: with 2 + 2 patients no coin pattern is impossible that a coin allows."""
    assert coin_number(2, 2) == 2
    found = set()
    for split in product([False, True], repeat=4):
        if sum(split) == 2:
            for seed in range(40):
                chosen = coin_patients(np.array(split), seed)
                found.add((tuple(chosen), tuple(np.array(split)[chosen])))
    pairs = {positions for positions, _ in found}
    assert all(sum(p == q for q, _ in found) == 4 for p in pairs)
