"""Whether a predicted probability is the share of positives among records that are given it."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt


def brier_score(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """The mean squared difference of probability and label.

    Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review
    78(1), 1950, in its form for one class (half of Brier's sum over both): 0 is perfect, and
    always saying 0.5 gives 0.25.

    Args:
        probabilities: (n,) in [0, 1].
        labels: (n,) of 0 and 1.

    Returns:
        The score in [0, 1]; NaN without a record.

    Raises:
        ValueError: when shapes differ or a value is out of range.
    """
    probability, label = _checked(probabilities, labels)
    return float(np.mean((probability - label) ** 2)) if label.size else math.nan


def expected_calibration_error(
    probabilities: npt.ArrayLike, labels: npt.ArrayLike, bins: int
) -> float:
    """The expected calibration error over bins of equal width.

    Naeini, Cooper and Hauskrecht, "Obtaining well calibrated probabilities using Bayesian
    binning", AAAI 2015: sum over bins of (share of records in it) x |share of positives - mean
    probability|. Bin k of B holds the probabilities in [k/B, (k+1)/B), the last one also 1. It is
    biased upwards when bins hold few records, so compare it at equal numbers of records only.

    Args:
        probabilities: (n,) in [0, 1].
        labels: (n,) of 0 and 1.
        bins: their number B, >= 1.

    Returns:
        The error in [0, 1]; NaN without a record.

    Raises:
        ValueError: when shapes differ or a value is out of range.
    """
    probability, label = _checked(probabilities, labels)
    if bins < 1:
        raise ValueError(f"at least one bin is needed, got {bins}")
    if not label.size:
        return math.nan
    edges = np.arange(1, bins) / bins
    where = np.searchsorted(edges, probability, side="right")
    # In each bin, |sum of labels - sum of probabilities| / n is its share times its gap.
    gaps = np.bincount(where, weights=label - probability, minlength=bins)
    return float(np.abs(gaps).sum() / label.size)


def _checked(
    probabilities: npt.ArrayLike, labels: npt.ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    probability = np.asarray(probabilities, dtype=np.float64)
    label = np.asarray(labels, dtype=np.float64)
    if probability.ndim != 1 or label.shape != probability.shape:
        raise ValueError(
            f"probabilities and labels must be (n,), got {probability.shape} and {label.shape}"
        )
    if not ((probability >= 0.0) & (probability <= 1.0)).all():
        raise ValueError("probabilities must lie in [0, 1]")
    if not ((label == 0.0) | (label == 1.0)).all():
        raise ValueError("labels must be 0 or 1")
    return probability, label
