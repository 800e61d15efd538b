"""What noisy integer sums cost: the Poisson-sampled Skellam mechanism.

A Skellam value of variance V is the difference of two independent Poisson values of mean V/2. Sums
of independent Skellam values are Skellam, and their variances add, so that many sites can each add
a share of the noise. The derivation behind the figures is in docs/explanation/shared-noise.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from privfin.errors import PlanError
from privfin.privacy.renyi import (
    ORDERS,
    FloatArray,
    every_order,
    poisson_sampled,
)

# A float holds whole numbers exactly up to here.
_LARGEST_WHOLE = 2**53


@dataclass(frozen=True, order=True)
class SubsampledSkellamEvent:
    """Steps that each release an integer sum over a Poisson sample plus Skellam noise.

    One patient changes the sum by an integer vector of at most the given norms, except with a
    probability of at most ``slack`` over all steps together.

    Attributes:
        variance: of the noise on every coordinate, in squared units of the integers, >= 0; 0 means
            no privacy.
        l2_squared: largest squared Euclidean norm of one patient's change, >= 0.
        l1: largest sum of magnitudes of that change, >= 0; it need not exceed ``l2_squared``,
            since the change is a vector of integers.
        sampling_rate: probability that a patient is in a step's sample, 0 < q <= 1.
        steps: how many such steps, >= 0.
        slack: probability that the norms are exceeded in any of the steps, 0 <= slack < 1. It is
            taken off δ.

    Raises:
        PlanError: when a field is out of range or not a number.
    """

    variance: int
    l2_squared: int
    l1: int
    sampling_rate: float
    steps: int
    slack: float

    def __post_init__(self) -> None:
        for name in ("variance", "l2_squared", "l1", "steps"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise PlanError(f"{name} must be a whole number, got {value!r}")
            if not 0 <= value <= _LARGEST_WHOLE:
                raise PlanError(f"{name} must lie between 0 and 2^53, got {value}")
        for name in ("sampling_rate", "slack"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise PlanError(f"{name} must be a number, got {value!r}")
            object.__setattr__(self, name, float(value))
        if not 0.0 < self.sampling_rate <= 1.0:
            raise PlanError(f"sampling_rate must lie in (0, 1], got {self.sampling_rate}")
        if not 0.0 <= self.slack < 1.0:
            raise PlanError(f"slack must lie in [0, 1), got {self.slack}")


def skellam_curve(event: SubsampledSkellamEvent) -> FloatArray:
    """Rényi divergence bounds of *all* steps of ``event`` at :data:`~.renyi.ORDERS`.

    Infinite when a step had no noise; zero without steps.
    """
    if event.steps == 0:
        return np.zeros(len(ORDERS))
    return event.steps * _step_curve(
        event.variance, event.l2_squared, event.l1, event.sampling_rate
    )


def unsampled_curve(variance: int, l2_squared: int, l1: int) -> FloatArray:
    """Rényi divergence bounds of one step that takes every patient, at the orders 2, 3, …, 1024.

    For whole α > 1, shift s and variance V (Agarwal, Kairouz and Liu, "The Skellam Mechanism for
    Differentially Private Federated Learning", arXiv:2110.04995, theorem 3.5) ::

        α |s|₂² / 2V + min( ((2α - 1) |s|₂² + 6 |s|₁) / 4V², 3 |s|₁ / 2V )

    Args:
        variance: V, at least 0; 0 gives infinity unless nothing changes.
        l2_squared: bound on |s|₂².
        l1: bound on |s|₁.
    """
    orders = every_order()
    if l2_squared == 0 or l1 == 0:
        # An integer vector with either norm zero is zero.
        return np.zeros(orders.size)
    if variance == 0:
        return np.full(orders.size, math.inf)
    size, square, sum_of_sizes = float(variance), float(l2_squared), float(l1)
    fine = ((2.0 * orders - 1.0) * square + 6.0 * sum_of_sizes) / (4.0 * size**2)
    coarse = 3.0 * sum_of_sizes / (2.0 * size)
    curve: FloatArray = orders * square / (2.0 * size) + np.minimum(fine, coarse)
    return curve


@lru_cache(maxsize=4096)
def _step_curve(variance: int, l2_squared: int, l1: int, rate: float) -> FloatArray:
    curve = poisson_sampled(unsampled_curve(variance, l2_squared, l1), rate)
    curve.flags.writeable = False
    return curve
