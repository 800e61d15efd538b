"""ε of a Gaussian mechanism: N(0, 1) against N(μ, 1)."""

from __future__ import annotations

import math

from scipy.special import log_ndtr


def gaussian_log_delta(mu: float, epsilon: float) -> float:
    """The natural logarithm of δ(ε) of μ-GDP.

    δ(ε) = Φ(μ/2 - ε/μ) - e^ε Φ(-μ/2 - ε/μ) (Dong, Roth and Su, arXiv:1905.02383, corollary 1;
    Balle and Wang 2018). Taken in logarithms, so that neither term overflows or vanishes.

    Args:
        mu: above 0.
        epsilon: at least 0.
    """
    first = float(log_ndtr(mu / 2 - epsilon / mu))
    second = epsilon + float(log_ndtr(-mu / 2 - epsilon / mu))
    gap = second - first
    # Far out the terms agree to the last digit: nothing is left of their difference.
    return first + math.log(-math.expm1(gap)) if gap < 0.0 else -math.inf


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The ε of μ-GDP at δ, rounded down by less than 1e-12 of itself.

    Args:
        mu: at least 0.
        delta: in (0, 1).

    Returns:
        The smallest ε >= 0 with δ(ε) <= ``delta``; 0 for mu = 0.
    """
    target = math.log(delta)
    if mu <= 0.0 or gaussian_log_delta(mu, 0.0) <= target:
        return 0.0
    low, high = 0.0, max(1.0, mu * mu)
    while gaussian_log_delta(mu, high) > target:
        low, high = high, 2.0 * high
    while high - low > 1e-13 * high:
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        if gaussian_log_delta(mu, middle) > target:
            low = middle
        else:
            high = middle
    return low
