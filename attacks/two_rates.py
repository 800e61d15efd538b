"""Lower bounds on ε from the two error rates of one membership test.

Both take the counts of a test whose threshold was fixed before the scores were seen;
``attacks.thresholds`` pays for one that was searched.

Assumptions: the observations are independent draws of the same two distributions, the score of a
canary that was trained on and that of one that was not. That holds exactly when each observation
comes from a training run of its own (or from a step of its own of a mechanism that is Gaussian).
Many canaries in one run share that run's noise: use ``attacks.one_run`` there.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from attacks.gaussian import gaussian_epsilon
from attacks.limits import (
    Bound,
    FloatArray,
    check_confidence,
    check_counts,
    check_delta,
    upper_limit,
)


def two_rate_epsilon(
    tp: int, fn: int, fp: int, tn: int, delta: float, confidence: float = 0.95
) -> Bound:
    """A bound that assumes nothing of the mechanism's shape.

    Every test of an (ε, δ)-DP mechanism has FPR + e^ε FNR >= 1 - δ and FNR + e^ε FPR >= 1 - δ
    (Kairouz, Oh and Viswanath 2015). With Clopper–Pearson upper limits of both rates, each with
    half of the error, so that both hold together (Jagielski, Ullman and Oprea 2020,
    arXiv:2006.07709; Nasr et al. 2021, arXiv:2101.04535):

        ε >= max(0, log((1 - δ - FNR) / FPR), log((1 - δ - FPR) / FNR))

    Args:
        tp: members called members.
        fn: members called non-members.
        fp: non-members called members.
        tn: non-members called non-members.
        delta: in [0, 1).
        confidence: of the bound, in (0, 1).

    Returns:
        The bound; its ceiling is that of a test of as many members and non-members without error.

    Raises:
        ValueError: when a value is out of range.
    """
    check_counts(tp=tp, fn=fn, fp=fp, tn=tn)
    check_delta(delta)
    error = 0.5 * check_confidence(confidence)
    epsilons = two_rate_epsilons([fn, 0], tp + fn, [fp, 0], fp + tn, delta, error)
    return Bound(float(epsilons[0]), float(epsilons[1]), delta, confidence)


def gdp_epsilon(
    tp: int, fn: int, fp: int, tn: int, delta: float, confidence: float = 0.95
) -> Bound:
    """A bound for a mechanism that is Gaussian: far higher than the two-rate bound can reach.

    A μ-GDP mechanism has Φ⁻¹(1 - FPR) - Φ⁻¹(FNR) <= μ for every test (Dong, Roth and Su,
    arXiv:1905.02383, eq. 6; Nasr et al. 2023, arXiv:2302.07956). With upper limits of both rates
    this bounds μ from below, and ε(μ, δ) grows with μ. A test worse than chance gives 0: its
    opposite was not the test that was fixed.

    It is valid only if the mechanism's trade-off curve is that of a Gaussian with some μ, as for
    full-batch DP-SGD. For a sampled mechanism it may overstate ε.

    Args:
        tp: members called members.
        fn: members called non-members.
        fp: non-members called members.
        tn: non-members called non-members.
        delta: in (0, 1).
        confidence: of the bound, in (0, 1).

    Returns:
        The bound, with its μ; its ceiling is that of a test of as many members and non-members
        without error.

    Raises:
        ValueError: when a value is out of range.
    """
    check_counts(tp=tp, fn=fn, fp=fp, tn=tn)
    check_delta(delta, positive=True)
    error = 0.5 * check_confidence(confidence)
    mu, best = gdp_mus([fn, 0], tp + fn, [fp, 0], fp + tn, error).tolist()
    epsilon, ceiling = gaussian_epsilon(mu, delta), gaussian_epsilon(best, delta)
    return Bound(epsilon, ceiling, delta, confidence, mu)


def two_rate_epsilons(
    fn: npt.ArrayLike,
    members: int,
    fp: npt.ArrayLike,
    nonmembers: int,
    delta: float,
    limit_error: float,
) -> FloatArray:
    """``two_rate_epsilon`` of many thresholds, with the error of one limit given.

    Args:
        fn: (k,) members called non-members.
        members: how many there are.
        fp: (k,) non-members called members.
        nonmembers: how many there are.
        delta: in [0, 1).
        limit_error: of each of the limits, in (0, 1).

    Returns:
        (k,) bounds, at least 0. They hold together where the errors of all limits used add up to
        the error allowed.
    """
    missed = upper_limit(fn, members, limit_error)
    alarms = upper_limit(fp, nonmembers, limit_error)
    # 0 where the limits say nothing: log of at least 1.
    found = np.maximum(1.0 - delta - missed, alarms) / alarms
    other = np.maximum(1.0 - delta - alarms, missed) / missed
    bounds: FloatArray = np.log(np.maximum(found, other))
    return bounds


def gdp_mus(
    fn: npt.ArrayLike, members: int, fp: npt.ArrayLike, nonmembers: int, limit_error: float
) -> FloatArray:
    """The bounds on μ behind ``gdp_epsilon`` of many thresholds; arguments as above.

    Returns:
        (k,) values of at least 0.
    """
    missed = upper_limit(fn, members, limit_error)
    alarms = upper_limit(fp, nonmembers, limit_error)
    # Φ⁻¹(1 - x) = -Φ⁻¹(x), exact for small x. Clamped, never the absolute value.
    mus: FloatArray = np.maximum(-ndtri(alarms) - ndtri(missed), 0.0)
    return mus


def two_rate_size(epsilon: float, delta: float, confidence: float = 0.95) -> int:
    """How many members, and as many non-members, a two-rate test needs to be able to show ε.

    Without any error, n a side have the limits x = 1 - (error / 2)^(1/n); the smallest n with
    log((1 - δ - x) / x) >= ε.

    Raises:
        ValueError: when a value is out of range.
    """
    check_delta(delta)
    half = 0.5 * check_confidence(confidence)
    if not 0.0 <= epsilon < 700.0:
        raise ValueError(f"epsilon must be in [0, 700), got {epsilon}")
    largest = (1.0 - delta) / (1.0 + math.exp(epsilon))
    return max(1, math.ceil(math.log(half) / math.log1p(-largest)))
