"""Mechanisms of known ε, drawn with numpy: what an audit's statistics are tried on.

Each draw gives scores and coins of independent records, every coin fair and thrown on its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from attacks.gaussian import gaussian_epsilon
from attacks.limits import BoolArray, FloatArray

Draw = Callable[[np.random.Generator, int], tuple[FloatArray, BoolArray]]


@dataclass(frozen=True)
class KnownMechanism:
    """A mechanism whose ε is known exactly.

    Attributes:
        name: for a table.
        epsilon: the smallest ε at ``delta``: a bound above it is wrong.
        delta: in [0, 1).
        draw: (generator, n) to scores (n,), higher for more likely a member, and coins (n,).
    """

    name: str
    epsilon: float
    delta: float
    draw: Draw


def randomised_response(epsilon: float) -> KnownMechanism:
    """The coin itself, told rightly with probability e^ε / (1 + e^ε): exactly (ε, 0)-DP.

    Scores are in [-1, -0.5) for the answer "out" and in [0.5, 1) for "in". Within an answer they
    are random, which is post-processing: no ties are left, and every threshold above 0 has the
    same ratio e^ε of true to false alarms.

    Raises:
        ValueError: when ``epsilon`` is negative or not finite.
    """
    if not 0.0 <= epsilon < math.inf:
        raise ValueError(f"epsilon must be at least 0 and finite, got {epsilon}")
    right = 1.0 / (1.0 + math.exp(-epsilon))

    def draw(rng: np.random.Generator, records: int) -> tuple[FloatArray, BoolArray]:
        members = _coins(rng, records)
        answer = np.where(rng.random(records) < right, members, ~members)
        return np.where(answer, 0.5, -1.0) + 0.5 * rng.random(records), members

    return KnownMechanism(f"randomised response {epsilon:g}", epsilon, 0.0, draw)


def gaussian_query(mu: float, delta: float = 1e-5) -> KnownMechanism:
    """A sum that a record changes by μ, with N(0, 1) added: exactly μ-GDP.

    Raises:
        ValueError: when ``mu`` is negative or not finite, or ``delta`` not in (0, 1).
    """
    _check(mu=mu, delta=delta)

    def draw(rng: np.random.Generator, records: int) -> tuple[FloatArray, BoolArray]:
        members = _coins(rng, records)
        return rng.normal(mu * members, 1.0), members

    return KnownMechanism(f"Gaussian, mu {mu:g}", gaussian_epsilon(mu, delta), delta, draw)


def gaussian_steps(sigma: float, steps: int, delta: float = 1e-5) -> KnownMechanism:
    """T full-batch steps with noise σ and a Dirac canary: exactly √T / σ-GDP.

    The canary's clipped gradient is 1 on a coordinate that no other patient touches, so that only
    this coordinate of a step tells of it: coin + N(0, σ²). The score is the sum over steps divided
    by σ √T. Every record is a run of its own. σ = 4 and T = 16 make 1-GDP, ε 4.377178 at δ 1e-5.

    Raises:
        ValueError: when a value is out of range.
    """
    if not (0.0 < sigma < math.inf and steps >= 1):
        raise ValueError(f"sigma must be above 0 and steps at least 1, got {sigma} and {steps}")
    mu = math.sqrt(steps) / sigma
    _check(mu=mu, delta=delta)

    def draw(rng: np.random.Generator, records: int) -> tuple[FloatArray, BoolArray]:
        members = _coins(rng, records)
        seen = members[:, None] + rng.normal(0.0, sigma, (records, steps))
        return seen.sum(axis=1) / (sigma * math.sqrt(steps)), members

    return KnownMechanism(f"{steps} Gaussian steps", gaussian_epsilon(mu, delta), delta, draw)


def _coins(rng: np.random.Generator, records: int) -> BoolArray:
    return rng.random(records) < 0.5


def _check(*, mu: float, delta: float) -> None:
    if not 0.0 <= mu < math.inf:
        raise ValueError(f"mu must be at least 0 and finite, got {mu}")
    if not 0.0 < delta < 1.0:
        raise ValueError(f"delta must be in (0, 1), got {delta}")
