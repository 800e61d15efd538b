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

# Small enough for the working arrays to stay in a core's cache, and below the length at which
# torch would split one call over several threads.
_PAIRS_PER_CHUNK = 2**14
_DRAWS_PER_VALUE = 4
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
    for start in range(0, count, per_chunk):
        wanted = values[start : start + per_chunk]
        half = (wanted.size + 1) // 2
        cosines, sines = _box_muller(stream, draws * half)
        scale = 1.0 / math.sqrt(draws)
        wanted[:half] = cosines.reshape(draws, half).sum(axis=0) * scale
        wanted[half:] = sines.reshape(draws, half).sum(axis=0)[: wanted.size - half] * scale
    return values


def _box_muller(stream: RandomStream, pairs: int) -> tuple[FloatArray, FloatArray]:
    """Two arrays of ``pairs`` standard normals, all independent."""
    unit = _unit_interval(stream, 2 * pairs)
    # torch computes these three functions in float64 about twice as fast as numpy.
    radius = np.sqrt(torch.log(torch.from_numpy(unit[:pairs])).mul_(-2.0).numpy())
    angle = torch.from_numpy(unit[pairs:]).mul_(2.0 * math.pi)
    return radius * torch.cos(angle).numpy(), radius * torch.sin(angle).numpy()


def _unit_interval(stream: RandomStream, count: int) -> FloatArray:
    """Numbers uniform on the 2^52 multiples of 2^-52 in (0, 1]: zero has no logarithm."""
    bits = stream.uint64(count)
    # 52 random bits behind the exponent of 1.0 make a number in [1, 2) without a conversion.
    np.right_shift(bits, np.uint64(12), out=bits)
    np.bitwise_or(bits, _EXPONENT_OF_ONE, out=bits)
    unit: FloatArray = bits.view(np.float64)
    np.subtract(2.0, unit, out=unit)
    return unit
