"""Coins: which canaries take part.

Every canary has a fair coin of its own. A random half of a fixed size would not do: the bounds of
``attacks.one_run`` are for independent coins, and with a fixed half the last coin is known from the
others.
"""

from __future__ import annotations

import numpy as np
from numpy.random import SeedSequence

from attacks.limits import BoolArray, check_counts


def seeds(count: int, entropy: int | None = None) -> list[SeedSequence]:
    """Independent seeds for ``count`` purposes.

    They are spawned from one sequence. Seeds made by hand can be one and the same without looking
    so: ``default_rng(0)`` and ``default_rng([0, 0])`` give equal numbers.

    Args:
        count: how many, at least 0.
        entropy: fixes them, for tests; by default they come from the operating system.

    Raises:
        ValueError: ``count`` is not a whole number of at least 0.
    """
    check_counts(count=count)
    return SeedSequence(entropy).spawn(count)


def throw(count: int, seed: SeedSequence) -> BoolArray:
    """The coins of ``count`` canaries, (count,): True puts a canary in.

    Each comes from a child of ``seed`` of its own, so that coin i does not depend on how many
    canaries there are. A seed has one set of coins: its children are spawned here.

    Raises:
        ValueError: ``count`` is not a whole number of at least 0, or the seed was used before.
    """
    check_counts(count=count)
    if seed.n_children_spawned:
        raise ValueError("a seed gives its coins once: use another of attacks.canaries.seeds")
    return np.array(
        [bool(np.random.default_rng(child).integers(2)) for child in seed.spawn(count)],
        dtype=np.bool_,
    )
