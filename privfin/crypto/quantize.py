"""Fixed-point integers for exact sums: clip, scale, round without bias, shift to be unsigned.

Stochastic rounding keeps a sum over many sites and rounds unbiased (Gupta et al. 2015, "Deep
Learning with Limited Numerical Precision"). It works on values that are already differentially
private, so it is post-processing; in the shared-noise mode the noise is added to the integers
of :meth:`Quantizer.levels` before :meth:`Quantizer.shift`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from privfin.errors import ConfigError, ProtocolError
from privfin.randomness import RandomStream

_AT_ONCE = 2**20


@dataclass(frozen=True)
class Quantizer:
    """Map real numbers in [-bound, bound] to unsigned integers of ``value_bits`` bits.

    Args:
        bound: largest magnitude kept, in the units of the values; finite, above 0.
        value_bits: bits of an encoded value, 2 to 32.

    Raises:
        ConfigError: an argument outside its range.
    """

    bound: float
    value_bits: int

    def __post_init__(self) -> None:
        if not (math.isfinite(self.bound) and self.bound > 0):
            raise ConfigError(f"quantizer bound must be finite and above 0, got {self.bound}")
        if not 2 <= self.value_bits <= 32:
            raise ConfigError(f"value_bits must lie in 2..32, got {self.value_bits}")

    @property
    def top_level(self) -> int:
        """The largest signed level, 2^(value_bits-1) - 1; ``bound`` maps to it."""
        return int(2 ** (self.value_bits - 1) - 1)

    @property
    def offset(self) -> int:
        """The code of zero, 2^(value_bits-1)."""
        return int(2 ** (self.value_bits - 1))

    @property
    def step(self) -> float:
        """The distance between neighbouring levels, in the units of the values."""
        return self.bound / self.top_level

    def levels(self, x: npt.NDArray[np.floating], stream: RandomStream) -> npt.NDArray[np.int64]:
        """Clip and round ``x`` (any shape, float32 or float64) to signed levels of that shape.

        A value between two levels goes up with probability equal to its fractional part, so the
        mean is exact (to 2^-53 of a step) and a value on a level, zero among them, stays there.

        Raises:
            ValueError: ``x`` holds NaN or infinity.
        """
        values = np.asarray(x, dtype=np.float64)
        if not np.isfinite(values).all():
            raise ValueError("an update holds NaN or infinity and cannot be encoded")
        scaled = np.clip(values, -self.bound, self.bound) / self.bound * self.top_level
        floor = np.floor(scaled)
        up = stream.uniform(values.size).reshape(values.shape) < scaled - floor
        return (floor + up).astype(np.int64)

    def shift(self, levels: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
        """Codes in [1, 2^value_bits - 1] of signed ``levels``; levels out of range saturate."""
        held = np.clip(levels, -self.top_level, self.top_level)
        return (held + self.offset).astype(np.uint32)

    def encode(self, x: npt.NDArray[np.floating], stream: RandomStream) -> npt.NDArray[np.uint32]:
        """:meth:`levels`, then :meth:`shift`: codes in [1, 2^value_bits - 1], shape of ``x``.

        Piece by piece, so that a large update needs no more memory than its codes.
        """
        values = np.asarray(x).reshape(-1)
        codes = np.empty(values.size, dtype=np.uint32)
        for start in range(0, values.size, _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            codes[some] = self.shift(self.levels(values[some], stream))
        return codes.reshape(np.shape(x))

    def decode_sum(self, total: npt.NDArray[np.integer], count: int) -> npt.NDArray[np.float64]:
        """The sum of ``count`` encoded arrays, back in the units of the values.

        Args:
            total: integer sums of codes, any shape.
            count: how many arrays were added, at least 1.

        Raises:
            ProtocolError: a sum that ``count`` codes cannot give; the message was damaged or
                the masks do not belong together.
        """
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        sums = np.asarray(total).astype(np.int64)
        lowest, highest = count, count * (2**self.value_bits - 1)
        if sums.size and (sums.min() < lowest or sums.max() > highest):
            raise ProtocolError(
                f"a decrypted sum lies outside what {count} sites can send: "
                "a contribution is missing, doubled or damaged"
            )
        return (sums - count * self.offset).astype(np.float64) * np.float64(self.step)
