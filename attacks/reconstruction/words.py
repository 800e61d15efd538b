"""Which words a report held, from the gradient of the linear map on its hashed n-grams.

A report is a vector with one equal positive value in each bucket that its n-grams fall into and
zero elsewhere. The gradient of a linear map on it shows that vector (``linear.linear_input``), and
with it the buckets; a dictionary of phrases, hashed alike, turns buckets back into words.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Recovery:
    """Buckets or phrases that were found, against those that are there.

    Attributes:
        found: how many were named.
        right: how many of them are there.
        there: how many there are.
    """

    found: int
    right: int
    there: int

    @property
    def precision(self) -> float:
        """Share of what was named that is there; 0 if nothing was named."""
        return self.right / self.found if self.found else 0.0

    @property
    def recall(self) -> float:
        """Share of what is there that was named; 1 if nothing is there."""
        return self.right / self.there if self.there else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.right / (self.found + self.there) if self.found + self.there else 1.0


def buckets_of(direction: npt.ArrayLike) -> BoolArray:
    """The buckets whose 0/1 vector has the largest cosine with ``direction``, (buckets,) bool.

    The k largest entries sum to s_k, and a vector of k ones has the cosine ``s_k / sqrt(k)``: the
    best k needs no threshold and is exact without noise. At least one bucket is chosen, none where
    nothing is positive.

    Raises:
        ValueError: a value is not finite.
    """
    values = np.asarray(direction, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("the direction holds values that are not finite")
    order = np.argsort(-values, kind="stable")
    cosines = np.cumsum(values[order]) / np.sqrt(np.arange(1, values.size + 1))
    chosen = np.zeros(values.size, dtype=np.bool_)
    if values.size and cosines.max() > 0:
        # Rounding must not add a bucket that is worth nothing.
        best = int(np.flatnonzero(cosines >= cosines.max() * (1 - 1e-12))[0])
        chosen[order[: best + 1]] = True
    return chosen


def recovery(found: npt.ArrayLike, truth: npt.ArrayLike) -> Recovery:
    """Counts over (entries,) of what was found against what is there."""
    said, there = np.asarray(found, dtype=np.bool_), np.asarray(truth, dtype=np.bool_)
    if said.shape != there.shape:
        raise ValueError("found and truth need the same shape")
    return Recovery(int(said.sum()), int((said & there).sum()), int(there.sum()))


def phrases_in(found: npt.ArrayLike, phrases: npt.ArrayLike) -> BoolArray:
    """Phrases all of whose buckets were found.

    Args:
        found: (buckets,) bool.
        phrases: (phrases, buckets), non-zero in the buckets of each candidate phrase.

    Returns:
        (phrases,) bool; a phrase without buckets is never found.
    """
    said, wanted = np.asarray(found, dtype=np.bool_), np.asarray(phrases) != 0
    return np.asarray(wanted.any(axis=1) & ~(wanted & ~said).any(axis=1), dtype=np.bool_)
