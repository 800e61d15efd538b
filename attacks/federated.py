"""Membership scores of someone who watches a federation train, round by round.

Two kinds of observer. A participant sees the global model of every round: :func:`trajectory_mean`,
:func:`trajectory_gain` and :func:`trajectory_slope` score what the models say of a record. Whoever
reads the updates of single sites has more: :func:`site_log_ratio` compares what a record has to do
with one site's update with what it has to do with those of the other sites.

Every score is larger for members, if the signals are. None takes the membership of any record.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr

from attacks.scores.checks import FloatArray, floats


def trajectory_mean(signals: npt.ArrayLike) -> FloatArray:
    """The mean over rounds of what each round's model says of a record.

    The time average of Chang, Shokri et al., "Efficient Privacy Auditing in Federated Learning"
    (USENIX Security 2024), which compares it with their slope.

    Args:
        signals: (rounds, records), larger for members, such as minus the loss.

    Returns:
        (records,).

    Raises:
        ValueError: no round, or a signal is not finite.
    """
    mean: FloatArray = _rounds(signals, 1).mean(axis=0)
    return mean


def trajectory_gain(signals: npt.ArrayLike) -> FloatArray:
    """The last round's signal minus the first's: how much was learned of a record.

    A baseline of the same paper as :func:`trajectory_mean`. What is hard about a record for any
    model is in both rounds, and falls out.

    Args:
        signals: (rounds, records), at least 2 rounds in their order.

    Returns:
        (records,).

    Raises:
        ValueError: fewer rounds, or a signal is not finite.
    """
    array = _rounds(signals, 2)
    gain: FloatArray = array[-1] - array[0]
    return gain


def trajectory_slope(signals: npt.ArrayLike) -> FloatArray:
    """The slope of the least-squares line through a record's signals, a round.

    The score that Chang et al. propose (USENIX Security 2024): with T rounds, t̄ the mean of
    t = 0 .. T-1,

        slope = Σ_t (t - t̄) s_t / Σ_t (t - t̄)²

    Args:
        signals: (rounds, records), at least 2 rounds in their order, evenly spaced.

    Returns:
        (records,).

    Raises:
        ValueError: fewer rounds, or a signal is not finite.
    """
    array = _rounds(signals, 2)
    time = np.arange(len(array)) - (len(array) - 1) / 2
    # Differences to the first round: a record whose signal never moves gets exactly 0.
    slope: FloatArray = time @ (array - array[0]) / (time @ time)
    return slope


def site_log_ratio(signals: npt.ArrayLike, target: int, *, floor: float = 1e-12) -> FloatArray:
    """FedMIA: the other sites' updates are what an update without the record looks like.

    After Zhu et al. 2024 (arXiv:2402.06289), who test the hypothesis "not a member" one-sidedly:
    m_k is the signal of a record and site k's update in one round, and with mean and standard
    deviation over the K - 1 sites other than the target j,

        z = (m_j - mean) / sd,      score = Σ_rounds log Φ(z)

    log Φ(z) is the logarithm of the probability that a site which does not hold the record shows
    less than the target does. It needs no shadow models. ``sd`` divides by K - 2, and is the
    square root of the variance's mean over the records of the round: with a handful of other sites
    a record's own would be mostly chance, as in online LiRA with few shadows.

    Their FedMIA-II takes as signal the cosine of the record's gradient and the update (what an
    update descends: minus the cosine with the change of parameters), FedMIA-I what the site's
    local model says of the record.

    Args:
        signals: (rounds, sites, records), larger for the site that holds the record.
        target: the site that is attacked, a place in the second axis.
        floor: a standard deviation below ``floor`` times the largest signal of the round counts as
            that much: where other sites do not differ there is nothing to compare with, and where
            the target does not differ either the score is that of z = 0.

    Returns:
        (records,), at most 0. Records of which nothing distinguishes the target from the other
        sites have ``rounds`` times log 1/2.

    Raises:
        ValueError: fewer than 3 sites, no round, no record, or a signal is not finite.
    """
    array = floats("signals", signals, 3)
    rounds, sites, records = array.shape
    if sites < 3:
        raise ValueError(f"the other sites are the null: 3 sites or more are needed, not {sites}")
    if not 0 <= target < sites:
        raise ValueError(f"target must be a site from 0 to {sites - 1}, not {target}")
    if not (rounds and records):
        raise ValueError("signals must have at least one round and one record")
    # Differences to one of the others, so that equal signals differ by exactly nothing.
    first = array[:, [0 if target else 1]]
    others = np.delete(array, target, axis=1) - first
    gap = array[:, target] - first[:, 0] - others.mean(axis=1)
    pooled = np.sqrt(others.var(axis=1, ddof=1).mean(axis=1, keepdims=True))
    smallest = floor * np.abs(array).max(axis=(1, 2), initial=0.0)[:, np.newaxis]
    scale = np.maximum(pooled, np.maximum(smallest, np.finfo(np.float64).tiny))
    score: FloatArray = log_ndtr(gap / scale).sum(axis=0)
    return score


def _rounds(signals: npt.ArrayLike, least: int) -> FloatArray:
    """Signals (rounds, records) as float64; ValueError with fewer than ``least`` rounds."""
    array = floats("signals", signals, 2)
    if len(array) < least:
        raise ValueError(f"signals of at least {least} rounds are needed, not {len(array)}")
    return array
