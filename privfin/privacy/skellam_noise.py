"""Skellam noise from a cryptographic stream, sampled exactly: in whole numbers only.

The Skellam distribution of variance V has probabilities ``exp(-V) I_k(V)``, with I_k the modified
Bessel function (it is the difference of two Poisson values of mean V/2). Sums of independent
Skellam values are Skellam, and variances add: that is why many sites can share one noise.

The table behind a sampler comes from the recurrence ``I_{k-1} = I_{k+1} + (2k/V) I_k``, run
downwards (Miller's algorithm; Gautschi, "Computational Aspects of Three-Term Recurrence
Relations", 1967) in integers of some hundred bits. A draw compares 128 random bits with 128-bit
thresholds. In total variation a value is within 2^-100 of the exact distribution, so over 10^9
values nothing is lost that could be seen beside any delta.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from privfin.randomness import RandomStream

#: Values beyond a sampler's range would have had this probability, as a power of 2.
TAIL_BITS = 112

_PRECISION = 320
_WORD = 64
_GUIDE_BITS = 16
_CHUNK = 2**16


def largest_draw(variance: int) -> int:
    """W: a draw of this variance never lies outside [-W, W].

    The smallest whole number that Chernoff's bound puts at a tail below 2^-112:
    ``P(X >= w) <= exp(sqrt(V^2 + w^2) - V - w asinh(w/V))``, the minimum over t of
    ``exp(V (cosh t - 1) - t w)``.

    Args:
        variance: V, at least 1.
    """
    if variance < 1:
        raise ValueError(f"a variance must be at least 1, got {variance}")
    size = float(variance)

    def log2_tail(w: int) -> float:
        root = w * (w / (math.hypot(size, w) + size))
        return (root - w * math.asinh(w / size)) / math.log(2.0) + 1.0

    low, high = 1, 2
    while log2_tail(high) > -TAIL_BITS:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if log2_tail(middle) > -TAIL_BITS else (low, middle)
    return high


class SkellamSampler:
    """Draws Skellam values of one variance.

    Args:
        variance: V >= 1, a whole number. Making a sampler takes time in proportion to sqrt(V), a
            second at V = 10^10; samplers of a variance share their table.

    Attributes:
        largest: W; see :func:`largest_draw`.
    """

    def __init__(self, variance: int) -> None:
        self.largest = largest_draw(variance)
        self._high, self._low, self._first, self._last = _table(variance)

    def sample(self, stream: RandomStream, count: int) -> npt.NDArray[np.int64]:
        """``count`` independent values, (count,).

        Raises:
            ValueError: when ``count`` is negative.
        """
        if count < 0:
            raise ValueError(f"count must be at least 0, got {count}")
        values = np.empty(count, dtype=np.int64)
        for start in range(0, count, _CHUNK):
            part = values[start : start + _CHUNK]
            part[:] = self._places(stream, part.size)
        return values - self.largest

    def _places(self, stream: RandomStream, count: int) -> npt.NDArray[np.int64]:
        """How many thresholds are at or below each of ``count`` uniform 128-bit numbers."""
        high = stream.uint64(count)
        bucket = (high >> np.uint64(_WORD - _GUIDE_BITS)).astype(np.int64)
        places = self._first[bucket]
        # Where a threshold cuts through a bucket, its own bits decide.
        cut = np.flatnonzero(places != self._last[bucket])
        drawn = high[cut]
        below = np.searchsorted(self._high, drawn, side="left")
        upto = np.searchsorted(self._high, drawn, side="right")
        places[cut] = upto
        for i in np.flatnonzero(below != upto):
            # The first 64 bits are those of a threshold (or of several): 64 more decide.
            lowest = stream.uint64(1)[0]
            same = self._low[below[i] : upto[i]]
            places[cut[i]] = below[i] + np.searchsorted(same, lowest, side="right")
        return places


@lru_cache(maxsize=32)
def _table(
    variance: int,
) -> tuple[
    npt.NDArray[np.uint64],
    npt.NDArray[np.uint64],
    npt.NDArray[np.int64],
    npt.NDArray[np.int64],
]:
    """Thresholds as high and low words, and how many lie below and up to the end of each bucket.

    Threshold i is the probability of all values up to ``i - W``, in units of 2^-128; there are 2 W
    of them, one fewer than there are values.
    """
    weights = bessel_weights(variance, largest_draw(variance))
    everything = [*weights[:0:-1], *weights]
    total = sum(everything)
    reached, thresholds = 0, []
    for weight in everything[:-1]:
        reached += weight
        thresholds.append((reached << (2 * _WORD)) // total)
    low_word = (1 << _WORD) - 1
    high = np.array([t >> _WORD for t in thresholds], dtype=np.uint64)
    low = np.array([t & low_word for t in thresholds], dtype=np.uint64)
    starts = np.arange(2**_GUIDE_BITS, dtype=np.uint64) << np.uint64(_WORD - _GUIDE_BITS)
    ends = starts | np.uint64(2 ** (_WORD - _GUIDE_BITS) - 1)
    first = np.searchsorted(high, starts, side="left").astype(np.int64)
    last = np.searchsorted(high, ends, side="right").astype(np.int64)
    return high, low, first, last


def bessel_weights(variance: int, largest: int) -> list[int]:
    """Whole numbers in proportion to ``I_k(variance)`` for k = 0, 1, ..., ``largest``.

    The downward recurrence forgets its arbitrary start on the way: where it starts, I_k is far
    smaller again than at ``largest``. Weights at ``largest`` have more than 100 correct bits
    relative to the one at 0.
    """
    start = largest + largest // 4 + 16
    above, here = 0, 1 << _PRECISION
    found = [0] * (largest + 1)
    for k in range(start, 0, -1):
        above, here = here, above + (2 * k * here) // variance
        if k - 1 <= largest:
            found[k - 1] = here
    return found
