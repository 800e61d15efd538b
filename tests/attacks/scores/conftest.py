"""A world of models with Gaussian signals, whose best possible attack is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """target, shadows, membership: what an attacker has. members: the target's coins, hidden."""

    target: Array
    shadows: Array
    membership: npt.NDArray[np.bool_]
    members: npt.NDArray[np.bool_]
    log_ratio: Array


@pytest.fixture(scope="session")
def gaussian_world() -> Callable[..., World]:
    """Signals N(μ_i, s_i²) of models without record i, and N(μ_i + rise_i s_i, s_i²) with it."""

    def make(
        seed: int,
        *,
        models: int = 64,
        records: int = 400,
        rises: tuple[float, ...] = (1.0,),
        labels: int | None = None,
    ) -> World:
        rng = np.random.default_rng(seed)
        tail = () if labels is None else (labels,)
        usual = rng.normal(0.0, 3.0, (records, *tail))
        scale = rng.uniform(0.5, 2.0, (records, *tail))
        rise = rng.choice(rises, (records, *tail))
        coins = rng.random((models + 1, records)) < 0.5
        where = coins.reshape(*coins.shape, *[1] * len(tail))
        z = rng.normal(size=(models + 1, records, *tail)) + where * rise
        signals = usual + scale * z
        best = rise * z[0] - rise**2 / 2
        return World(
            signals[0],
            signals[1:],
            coins[1:],
            coins[0],
            best if labels is None else best.sum(axis=-1),
        )

    return make


@pytest.fixture(scope="session")
def auc() -> Callable[[npt.ArrayLike, npt.ArrayLike], float]:
    """Pairs won, ties counting half."""

    def area(scores: npt.ArrayLike, members: npt.ArrayLike) -> float:
        values, inside = np.asarray(scores), np.asarray(members, dtype=bool)
        ahead = np.sign(values[inside][:, np.newaxis] - values[~inside][np.newaxis])
        return float(0.5 + 0.5 * ahead.mean())

    return area
