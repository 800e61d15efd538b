"""Normal noise from a cryptographic stream, in float64.

``standard_normal`` is Box–Muller (Box and Muller, 1958). ``gaussian_noise`` adds four independent
standard normals and halves the sum, as Opacus does in its secure mode; use it for noise that
protects patients.

What the four-fold sum protects against: the possible outputs of a single floating-point Gaussian
sample are few and unevenly spaced, so an attacker who sees ``value + noise`` exactly can sometimes
tell which values could have produced it (Mironov, "On Significance of the Least Significant Bits
for Differential Privacy", CCS 2012, for Laplace noise). Finding the internal state behind a sum of
four takes a search that is out of reach (Holohan and Braghin, "Secure Random Sampling in
Differential Privacy", arXiv:2107.10138).

What it does not protect against: it makes the attack expensive, it does not make it impossible. The
accountant's guarantee is stated for real numbers; sums, clipping and the cast to float32 still
round. A proof that holds for the machine's own numbers needs discrete noise on integers.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

from privfin.randomness import RandomStream

FloatArray = npt.NDArray[np.float64]

# Small enough for the working arrays to stay in a core's cache, large enough for the calls to cost
# little beside the work, and not above the length at which torch splits a call over threads.
_PAIRS_PER_CHUNK = 2**15
_DRAWS_PER_VALUE = 4
_UNUSED_BITS = np.uint64(12)
_EXPONENT_OF_ONE = np.uint64(0x3FF0000000000000)


def standard_normal(stream: RandomStream, count: int) -> FloatArray:
    """Draw independent standard normal values.

    Args:
        stream: where the randomness comes from.
        count: how many values, at least 0.

    Returns:
        ``count`` float64 values, N(0, 1). The largest possible magnitude is
        sqrt(2 * 52 * ln 2) = 8.49.

    Raises:
        ValueError: when ``count`` is negative.
    """
    return _in_chunks(stream, count, draws=1)


def gaussian_noise(stream: RandomStream, count: int) -> FloatArray:
    """Draw independent standard normal values, each half the sum of four independent ones.

    The four normals behind one value come from four different Box–Muller pairs, so no two of them
    share a radius or an angle. See the module's text for what this protects against.

    Args:
        stream: where the randomness comes from.
        count: how many values, at least 0.

    Returns:
        ``count`` float64 values, N(0, 1). Multiply by noise multiplier times clipping norm.

    Raises:
        ValueError: when ``count`` is negative.
    """
    return _in_chunks(stream, count, draws=_DRAWS_PER_VALUE)


def _in_chunks(stream: RandomStream, count: int, draws: int) -> FloatArray:
    if count < 0:
        raise ValueError(f"count must be at least 0, got {count}")
    values = np.empty(count, dtype=np.float64)
    # One group of ``draws`` pairs gives two values: one from the cosines, one from the sines.
    per_chunk = 2 * (_PAIRS_PER_CHUNK // draws)
    most = draws * ((min(count, per_chunk) + 1) // 2)
    # One workspace for all chunks: fresh memory for each would cost a tenth of the whole.
    words, spare = np.empty(2 * most, dtype=np.uint64), np.empty(most, dtype=np.float64)
    for start in range(0, count, per_chunk):
        wanted = values[start : start + per_chunk]
        half = (wanted.size + 1) // 2
        pairs = draws * half
        stream.fill(words[: 2 * pairs])
        cosines, sines = _box_muller(words[: 2 * pairs], spare[:pairs], 1.0 / draws)
        np.add.reduce(cosines.reshape(draws, half), axis=0, out=wanted[:half])
        left = wanted.size - half
        np.add.reduce(sines.reshape(draws, half)[:, :left], axis=0, out=wanted[half:])
    return values


def _box_muller(
    words: npt.NDArray[np.uint64], spare: FloatArray, variance: float
) -> tuple[FloatArray, FloatArray]:
    """Independent normal values of a variance, from random words, in place.

    Args:
        words: random, (2 * pairs,): the first half makes radii, the second angles. Overwritten.
        spare: room for the cosines, (pairs,). Overwritten.
        variance: of every value; a power of two, so that scaling rounds nothing.

    Returns:
        ``pairs`` values from the cosines (in ``spare``) and as many from the sines (in ``words``).
    """
    # 52 random bits behind the exponent of 1.0 make a number in [1, 2) without a conversion.
    np.right_shift(words, _UNUSED_BITS, out=words)
    np.bitwise_or(words, _EXPONENT_OF_ONE, out=words)
    unit: FloatArray = words.view(np.float64)
    radius, angle = unit[: spare.size], unit[spare.size :]
    # Uniform on the 2^52 multiples of 2^-52 in (0, 1]: zero has no logarithm.
    np.subtract(2.0, radius, out=radius)
    # torch computes logarithm, cosine and sine in float64 about twice as fast as numpy.
    torch.log_(torch.from_numpy(radius))
    np.multiply(radius, -2.0 * variance, out=radius)
    np.sqrt(radius, out=radius)
    # Angles in [2 pi, 4 pi) serve as well as those in [0, 2 pi).
    np.multiply(angle, 2.0 * math.pi, out=angle)
    turned = torch.from_numpy(angle)
    torch.cos(turned, out=torch.from_numpy(spare))
    torch.sin_(turned)
    np.multiply(spare, radius, out=spare)
    np.multiply(angle, radius, out=angle)
    return spare, angle
