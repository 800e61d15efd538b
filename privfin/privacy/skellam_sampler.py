"""Skellam noise from a cryptographic stream, in whole numbers throughout.

The probabilities exp(-V) I_k(V) come from the backward recurrence of the modified Bessel functions,
I_{k-1} = I_{k+1} + (2k/V) I_k (Olver, "Bessel Functions of Integer Order", 1964, section 9.12), in
Python integers with 256 bits after the point. They become a cumulative table of 128-bit thresholds,
so that what is drawn is within about 2^-110 of the Skellam distribution in total variation: no
floating-point number is involved, neither in the table nor in a draw.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from privfin.errors import PlanError
from privfin.randomness import RandomStream

LARGEST_VARIANCE = 10**10

_CHUNK = 2**16
_GUIDE_BITS = 16
# Beyond the largest value lies at most 2 exp(-78) < 2^-111, by Bernstein's inequality.
_TAIL = 78


def largest_noise(variance: int) -> int:
    """The largest magnitude that is drawn for ``variance``: W = 27 + sqrt(676 + 156 V).

    The logarithm of the moment generating function of a Skellam value is V (cosh s - 1), at most
    (V s² / 2) / (1 - s/3), hence P(|value| >= w) <= 2 exp(-w² / (2 (V + w/3))) (Boucheron, Lugosi
    and Massart, "Concentration Inequalities", 2013, section 2.4).
    """
    third = _TAIL // 3
    return third + math.isqrt(third**2 + 2 * _TAIL * variance) + 1


class SkellamSampler:
    """Draws independent Skellam values of one variance.

    Args:
        variance: V, 1 to 10^10; a value is the difference of two Poisson values of mean V/2.

    Attributes:
        variance: V.
        largest: no drawn value has a larger magnitude.

    Raises:
        PlanError: when ``variance`` is not a whole number in that range.
    """

    def __init__(self, variance: int) -> None:
        if isinstance(variance, bool) or not isinstance(variance, int):
            raise PlanError(f"the noise variance must be a whole number, got {variance!r}")
        if not 1 <= variance <= LARGEST_VARIANCE:
            raise PlanError(f"the noise variance must lie in 1..{LARGEST_VARIANCE}, got {variance}")
        self.variance = variance
        self.largest = largest_noise(variance)
        self._high, self._low, self._guide, self._clear = _table(variance)

    def sample(self, stream: RandomStream, count: int) -> npt.NDArray[np.int64]:
        """``count`` independent values in [-largest, largest].

        Takes 64 bits a value from ``stream``, and 64 more where they do not decide.

        Raises:
            ValueError: when ``count`` is negative.
        """
        if count < 0:
            raise ValueError(f"count must be at least 0, got {count}")
        values = np.empty(count, dtype=np.int64)
        for start in range(0, count, _CHUNK):
            wanted = values[start : start + _CHUNK]
            words = stream.uint64(wanted.size)
            bucket = (words >> np.uint64(64 - _GUIDE_BITS)).astype(np.int64)
            wanted[:] = self._guide[bucket]
            # Only where a threshold lies inside the bucket is there anything to search for.
            open_at = np.flatnonzero(~self._clear[bucket])
            asked = words[open_at]
            found = np.searchsorted(self._high, asked, side="right")
            tied = np.flatnonzero((found > 0) & (self._high[np.maximum(found, 1) - 1] == asked))
            for at in tied:
                word = asked[at]
                first = int(np.searchsorted(self._high, word, side="left"))
                below = self._low[first : int(found[at])] <= stream.uint64(1)[0]
                found[at] = first + int(below.sum())
            wanted[open_at] = found
        values -= self.largest
        return values


Words = npt.NDArray[np.uint64]


@lru_cache(maxsize=4)
def _table(variance: int) -> tuple[Words, Words, npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    """Thresholds as high and low words, the first index of every bucket, and buckets without one.

    A draw u of 128 bits gives the number of thresholds at or below u, minus ``largest``.
    """
    largest = largest_noise(variance)
    bessel = _bessel(variance, largest)
    whole = bessel[0] + 2 * sum(bessel[1:])
    below, thresholds = 0, []
    for k in range(-largest, largest):
        below += bessel[abs(k)]
        thresholds.append((below << 128) // whole)
    mask = 2**64 - 1
    high = np.array([threshold >> 64 for threshold in thresholds], dtype=np.uint64)
    low = np.array([threshold & mask for threshold in thresholds], dtype=np.uint64)
    starts = np.arange(2**_GUIDE_BITS, dtype=np.uint64) << np.uint64(64 - _GUIDE_BITS)
    guide = np.searchsorted(high, starts, side="left").astype(np.int32)
    clear = np.append(guide[1:], np.int32(high.size)) == guide
    return high, low, guide, clear


def _bessel(variance: int, largest: int) -> list[int]:
    """I_0(V), …, I_largest(V), all times one unknown factor."""
    begin = largest + largest // 2 + 64
    above, here = 0, 1 << 256
    kept = [0] * (largest + 1)
    for k in range(begin, 0, -1):
        above, here = here, above + 2 * k * here // variance
        if k - 1 <= largest:
            kept[k - 1] = here
    return kept
