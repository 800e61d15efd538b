"""Rényi differential privacy at whole orders: curves, Poisson sampling, and back to (ε, δ).

A curve holds one bound on the Rényi divergence, in both directions, for every entry of
:data:`ORDERS`; curves of mechanisms that follow one another add up (Mironov, "Rényi Differential
Privacy", CSF 2017, proposition 1). Only whole orders are used: at those the effect of Poisson
sampling is a finite sum without approximation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from dp_accounting.rdp import rdp_privacy_accountant as rdp
from scipy.special import logsumexp

FloatArray = npt.NDArray[np.float64]

ORDERS: tuple[int, ...] = (*range(2, 64), *range(64, 128, 8), 128, 192, 256, 384, 512, 768, 1024)
LARGEST_ORDER = ORDERS[-1]


def every_order() -> FloatArray:
    """The orders 2, 3, …, 1024 at which :func:`poisson_sampled` needs the unsampled curve."""
    return np.arange(2, LARGEST_ORDER + 1, dtype=np.float64)


def poisson_sampled(unsampled: FloatArray, rate: float) -> FloatArray:
    """The curve of a mechanism that sees each patient with probability ``rate`` only.

    For the mixture of "patient in the sample" and "not in it" against "never in it", add or remove
    one patient, the divergence of whole order α is exactly ::

        log( sum over k of binom(α, k) (1-q)^(α-k) q^k exp((k-1) D_k) ) / (α - 1)

    with D_k the unsampled divergence of order k; a bound on D_k gives a bound. The other direction
    is never larger when a symmetry swaps the two unsampled distributions, as for Gaussian and
    Skellam noise, where x → shift - x does (Mironov, Talwar and Zhang, "Rényi Differential Privacy
    of the Sampled Gaussian Mechanism", arXiv:1908.10530, theorem 5).

    The binomial weights sum to 1, so the sum is 1 plus the same sum with exp(…) - 1, which keeps
    all digits where the divergence is small.

    Args:
        unsampled: bounds at the orders 2, 3, …, 1024, each at least 0, infinity allowed; shape
            [1023].
        rate: q, 0 < q <= 1.

    Returns:
        Bounds at :data:`ORDERS`, shape [len(ORDERS)].
    """
    if rate == 1.0:
        everyone: FloatArray = unsampled[np.asarray(ORDERS) - 2]
        return everyone
    orders = np.asarray(ORDERS, dtype=np.float64)
    weights, ks, rest = _binomials()
    growth = (ks - 1.0) * unsampled
    # log(exp(x) - 1) without overflow for large x and without cancellation for small x.
    with np.errstate(divide="ignore"):
        terms = growth + np.log(-np.expm1(-growth))
    # An infinite divergence counts from its own order on.
    finite = np.where(np.isinf(terms) & (terms > 0.0), 0.0, terms)
    excess = logsumexp(weights + ks * math.log(rate) + rest * math.log1p(-rate) + finite, axis=1)
    curve: FloatArray = np.logaddexp(0.0, excess) / (orders - 1.0)
    without_bound = ks[np.isposinf(unsampled)]
    if without_bound.size:
        curve[orders >= without_bound.min()] = math.inf
    return curve


@lru_cache(maxsize=1024)
def gaussian_curve(noise_multiplier: float, rate: float) -> FloatArray:
    """The curve of one Poisson-sampled step with Gaussian noise; infinite without noise.

    Kept for equal arguments, since a ledger adds up the same runs again and again: read-only.

    Args:
        noise_multiplier: noise standard deviation over clipping norm, σ >= 0.
        rate: q, 0 < q <= 1.
    """
    orders = every_order()
    if noise_multiplier == 0.0:
        curve = np.full(len(ORDERS), math.inf)
    else:
        curve = poisson_sampled(orders / (2.0 * noise_multiplier**2), rate)
    curve.flags.writeable = False
    return curve


def curve_epsilon(curve: FloatArray, delta: float, orders: Sequence[int] = ORDERS) -> float:
    """The smallest ε that one of ``orders`` gives at ``delta``.

    The conversion is that of Canonne, Kamath and Steinke ("The Discrete Gaussian for Differential
    Privacy", arXiv:2004.00010, proposition 12), as in dp_accounting.

    Args:
        curve: bounds at :data:`ORDERS`.
        delta: δ; at or below 0 nothing but an empty curve has a finite ε.
        orders: some of :data:`ORDERS`.
    """
    if not np.any(curve > 0.0):
        return 0.0
    if delta <= 0.0:
        return math.inf
    chosen = [float(curve[ORDERS.index(order)]) for order in orders]
    return float(rdp.compute_epsilon(orders, chosen, delta)[0])


def curve_delta(curve: FloatArray, epsilon: float) -> float:
    """The smallest δ that some order gives at ``epsilon`` >= 0, at most 1."""
    if not np.any(curve > 0.0):
        return 0.0
    return float(rdp.compute_delta(ORDERS, curve, epsilon)[0])


@lru_cache(maxsize=1)
def _binomials() -> tuple[FloatArray, FloatArray, FloatArray]:
    """Logarithms of binom(α, k), the k and the α - k; shapes [orders, 1023], [1023], as first."""
    ks = every_order()
    weights = np.full((len(ORDERS), ks.size), -math.inf)
    for row, order in enumerate(ORDERS):
        for k in range(2, order + 1):
            weights[row, k - 2] = math.log(math.comb(order, k))
    rest = np.maximum(np.asarray(ORDERS, dtype=np.float64)[:, None] - ks, 0.0)
    return weights, ks, rest
