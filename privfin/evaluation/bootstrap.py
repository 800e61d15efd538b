"""The percentile bootstrap over patients.

Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13. A replicate draws as
many patients as there are, with replacement, and a record counts as often as its patient was
drawn. Records of one patient resemble each other, so drawing records instead would give too narrow
an interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

# Weights held at once, replicates times records: 32 MiB.
_WEIGHTS_AT_ONCE = 2**22


@dataclass(frozen=True)
class Interval:
    """A percentile interval; NaN without a usable replicate.

    Attributes:
        low: its lower end.
        high: its upper end.
        used: replicates in which the figure was defined.
    """

    low: float = math.nan
    high: float = math.nan
    used: int = 0


def patient_draws(patients: int, records: int, replicates: int, seed: int) -> Iterator[FloatArray]:
    """How often each patient was drawn, (some replicates, patients) at a time.

    Args:
        patients: how many there are, >= 1.
        records: how many records will be weighted; decides how many replicates come at a time.
        replicates: how many in all, >= 0.
        seed: the same seed gives the same draws, however many come at a time. It protects nothing.
    """
    random = np.random.default_rng(seed)
    at_once = max(1, _WEIGHTS_AT_ONCE // max(records, 1))
    for start in range(0, replicates, at_once):
        rows = min(at_once, replicates - start)
        drawn = random.integers(patients, size=(rows, patients))
        drawn += np.arange(rows)[:, np.newaxis] * patients
        counts = np.bincount(drawn.ravel(), minlength=rows * patients)
        yield counts.reshape(rows, patients).astype(np.float64)


def percentile_interval(replicates: FloatArray, confidence: float) -> Interval:
    """The interval that holds the middle ``confidence`` of the replicates that are not NaN."""
    usable = replicates[~np.isnan(replicates)]
    if not usable.size:
        return Interval()
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(usable, [tail, 1.0 - tail])
    return Interval(float(low), float(high), usable.size)
