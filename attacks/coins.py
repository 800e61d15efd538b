"""Fair coins out of a random split, so that bounds of the one-run kind hold for a real run.

Those bounds take canaries that were included by independent fair coins (Steinke, Nasr and
Jagielski 2023, arXiv:2305.08846, theorem 5.2). A run splits its patients at random into members and
held-out ones, in fixed numbers: the coins of a fixed split depend on one another. Throwing m coins
and drawing that many patients for heads among the members, and the rest among the held-out
patients, makes patients whose membership *is* m fair coins: given the m patients, every pattern is
as likely. The others are the fixed rest of the data.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

from attacks.limits import IntArray

#: How likely it may be that one side has too few patients for the coins.
_FAILURE = 1e-12


@lru_cache(maxsize=64)
def coin_number(members: int, nonmembers: int) -> int:
    """The most coins that two sides of these sizes can serve, but for a chance of 10^-12.

    Args:
        members: at least 0.
        nonmembers: at least 0.
    """

    def fails(coins: int) -> bool:
        too_many = binom.sf(members, coins, 0.5) + binom.sf(nonmembers, coins, 0.5)
        return bool(too_many > _FAILURE)

    low, high = min(members, nonmembers), members + nonmembers
    # low coins never fail; more coins fail more often.
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (low, middle - 1) if fails(middle) else (middle, high)
    return low


def coin_patients(members: npt.ArrayLike, seed: int) -> IntArray:
    """Patients whose membership is independent fair coins.

    Args:
        members: (n,) a random split of exchangeable patients.
        seed: of the coins; chosen before any score is looked at.

    Returns:
        (m,) ascending indices, m from :func:`coin_number`.

    Raises:
        ValueError: one side has too few patients for the coins that came up, by a chance of 10^-12.
    """
    inside = np.asarray(members, dtype=bool)
    rng = np.random.default_rng([seed, 0xC0145])
    here, there = np.flatnonzero(inside), np.flatnonzero(~inside)
    count = coin_number(here.size, there.size)
    heads = int(rng.binomial(count, 0.5))
    if heads > here.size or count - heads > there.size:
        raise ValueError("the coins ask for more patients than there are: use another seed")
    chosen = [
        rng.choice(here, heads, replace=False),
        rng.choice(there, count - heads, replace=False),
    ]
    return np.sort(np.concatenate(chosen)).astype(np.int64)
