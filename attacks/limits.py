"""Confidence limits of a share, and the result type of every bound on ε.

A bound on ε is a statement about the mechanism, made with a stated confidence: "a mechanism of a
smaller ε would have given a result like this in at most 1 - confidence of all audits".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import betainccinv, betaincinv

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Bound:
    """A lower bound on ε, beside what the test could have shown at best.

    Attributes:
        epsilon: with ``confidence`` the mechanism's ε at ``delta`` is at least this; >= 0, and 0
            when the audit found nothing.
        ceiling: the ε that the same test would have shown had every guess been right. A claim above
            it cannot be contradicted by a test of this size.
        delta: the δ at which ε is stated, in [0, 1).
        confidence: in (0, 1).
        mu: the lower bound on μ behind ``epsilon``, where the mechanism was assumed to be Gaussian;
            None where nothing was assumed of its shape.
    """

    epsilon: float
    ceiling: float
    delta: float
    confidence: float
    mu: float | None = None


def upper_limit(successes: npt.ArrayLike, trials: npt.ArrayLike, error: float) -> FloatArray:
    """The one-sided Clopper–Pearson upper limit of a probability (Clopper and Pearson 1934).

    The p at which ``successes`` or fewer of ``trials`` come with probability ``error``:
    Beta⁻¹(1 - error; k + 1, n - k), and 1 for k = n. It is below the true probability in at most
    ``error`` of all samples, whatever that probability is.

    Args:
        successes: k, whole numbers in [0, n]; any shape.
        trials: n, whole numbers; broadcast against ``successes``.
        error: in (0, 1), of this one limit alone.

    Returns:
        Limits in [0, 1], of the broadcast shape.
    """
    k, n = np.broadcast_arrays(np.asarray(successes, np.float64), np.asarray(trials, np.float64))
    limits = np.ones(k.shape)
    inside = k < n
    limits[inside] = betainccinv(k[inside] + 1.0, n[inside] - k[inside], error)
    return limits


def lower_limit(successes: npt.ArrayLike, trials: npt.ArrayLike, error: float) -> FloatArray:
    """The one-sided Clopper–Pearson lower limit: Beta⁻¹(error; k, n - k + 1), and 0 for k = 0."""
    k, n = np.broadcast_arrays(np.asarray(successes, np.float64), np.asarray(trials, np.float64))
    limits = np.zeros(k.shape)
    some = k > 0
    limits[some] = betaincinv(k[some], n[some] - k[some] + 1.0, error)
    return limits


def clopper_pearson(successes: int, trials: int, confidence: float) -> tuple[float, float]:
    """The two-sided interval: both one-sided limits, each with half of the error.

    Args:
        successes: in [0, trials].
        trials: at least 0; with none, the interval is [0, 1].
        confidence: in (0, 1).

    Returns:
        (low, high).

    Raises:
        ValueError: when a value is out of range.
    """
    check_counts(successes=successes, trials=trials)
    if successes > trials:
        raise ValueError(f"successes ({successes}) must be at most trials ({trials})")
    half = 0.5 * check_confidence(confidence)
    low, high = lower_limit(successes, trials, half), upper_limit(successes, trials, half)
    return float(low), float(high)


def check_confidence(confidence: float) -> float:
    """The error 1 - confidence, or ValueError."""
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    return 1.0 - confidence


def check_delta(delta: float, *, positive: bool = False) -> None:
    """ValueError unless δ is in [0, 1), or in (0, 1) where it must be positive."""
    if not 0.0 <= delta < 1.0:
        raise ValueError(f"delta must be in [0, 1), got {delta}")
    if positive and delta == 0.0:
        raise ValueError("delta must be above 0: a Gaussian mechanism has no finite epsilon at 0")


def check_counts(**counts: Any) -> None:
    """ValueError unless every value is a whole number of at least 0."""
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 0:
            raise ValueError(f"{name} must be a whole number of at least 0, got {value!r}")


def check_scores(scores: npt.ArrayLike, members: npt.ArrayLike) -> tuple[FloatArray, BoolArray]:
    """Scores and membership as arrays.

    Args:
        scores: (n,) finite; higher means more likely a member.
        members: (n,) of False and True, or 0 and 1.

    Raises:
        ValueError: when shapes differ or a value is out of range.
    """
    found, labels = np.asarray(scores, dtype=np.float64), np.asarray(members)
    if found.ndim != 1 or labels.shape != found.shape:
        raise ValueError(
            f"scores and members must be of one length, got {found.shape} and {labels.shape}"
        )
    if not np.all(np.isfinite(found)):
        raise ValueError("scores must be finite")
    if not np.all((labels == 0) | (labels == 1)):
        raise ValueError("members must be 0 or 1")
    return found, labels.astype(np.bool_)
